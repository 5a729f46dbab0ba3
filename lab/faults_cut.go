package lab

import (
	"context"
	"errors"
	"time"
)

// portsOf lists the switch ports of a machine, on the given networks, or all.
func portsOf(machine string, networks ...string) []string {
	var ports []string
	for _, c := range cables {
		if c.machine != machine {
			continue
		}
		wanted := len(networks) == 0
		for _, n := range networks {
			wanted = wanted || n == c.network
		}
		if wanted {
			ports = append(ports, c.port())
		}
	}
	return ports
}

// setPorts takes switch ports down or up: the machine sees its link lose the carrier.
func (t *topology) setPorts(up bool, ports ...string) error {
	var errs []error
	for _, p := range ports {
		errs = append(errs, t.spaces["switch"].SetUp(p, up))
	}
	return errors.Join(errs...)
}

// silence makes the switch drop everything between this machine's data links and the others, with the carrier up.
func (t *topology) silence(ctx context.Context, machine string, networks ...string) error {
	return t.cutPairs(ctx, t.pairsOf(machine, networks...)...)
}

// restore undoes silence.
func (t *topology) restore(ctx context.Context, machine string, networks ...string) error {
	return t.joinPairs(ctx, t.pairsOf(machine, networks...)...)
}

// pairsOf pairs the machine's port with every other port of the same network.
func (t *topology) pairsOf(machine string, networks ...string) (pairs [][2]string) {
	for _, n := range networks {
		for _, c := range cables {
			if c.network == n && c.machine != machine {
				pairs = append(pairs, [2]string{n + "." + machine, c.port()})
			}
		}
	}
	return pairs
}

// crash is a machine that dies: its links go down and its processes with it.
func (l *nvaLab) crash(name string) error {
	err := l.topo.setPorts(false, portsOf(name)...)
	l.topo.spaces[name].killAll()
	return err
}

// reboot brings a crashed appliance back with the kernel state of a fresh machine, and starts the appliance itself.
// Whoever fails it over starts his own processes afterwards.
func (l *nvaLab) reboot(ctx context.Context, name string) error {
	s := l.topo.spaces[name]
	s.killAll()
	for _, c := range cables {
		if c.machine == name {
			if err := s.dropForeignAddresses(c); err != nil {
				return err
			}
		}
	}
	if _, err := s.output(ctx, "conntrack", "-F"); err != nil {
		return err
	}
	if err := l.topo.setPorts(true, portsOf(name)...); err != nil {
		return err
	}
	if err := l.startAppliance(ctx, name); err != nil {
		return err
	}
	other := otherAppliance(name)
	if !l.appliance(other).alive() {
		return nil // nobody is left who knows a connection
	}
	if err := sleep(ctx, 300*time.Millisecond); err != nil { // conntrackd opens its sockets
		return err
	}
	return l.resync(ctx, other)
}
