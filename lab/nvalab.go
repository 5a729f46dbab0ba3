package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// nvaLab is the pair's site with its processes: what every contender (Understudy, keepalived) is measured on.
type nvaLab struct {
	binary    string // this program
	run       *runDir
	logs      string
	topo      *topology
	progress  io.Writer
	userSpace bool // the appliances forward in user space
	standing  bool // the processes outlive this one
	// appliance processes by machine: the appliance itself, conntrackd.
	own map[string][]*process
}

// newNVALab builds the site and starts both appliances. Whatever it gives, also with an error, the caller closes.
func newNVALab(ctx context.Context, o Options, userSpace bool) (*nvaLab, error) {
	l := &nvaLab{binary: o.Binary, userSpace: userSpace, progress: o.Progress, standing: o.standing, own: map[string][]*process{}}
	var err error
	if l.binary == "" {
		if l.binary, err = os.Executable(); err != nil {
			return l, err
		}
	}
	if l.run, err = newRunDir(); err != nil {
		return l, err
	}
	if l.logs = o.LogDir; l.logs == "" {
		l.logs = filepath.Join(l.run.path, "logs")
	}
	if err = os.MkdirAll(l.logs, 0o755); err != nil {
		return l, err
	}
	if l.topo, err = buildTopology(ctx, l.run); err != nil {
		return l, err
	}
	for _, name := range appliances {
		if err := l.startAppliance(ctx, name); err != nil {
			return l, err
		}
	}
	return l, nil
}

// close removes everything the lab made. Twice is safe.
func (l *nvaLab) close() error {
	var errs []error
	if l.topo != nil {
		errs = append(errs, l.topo.close())
	}
	if l.run != nil {
		errs = append(errs, l.run.remove())
	}
	return errors.Join(errs...)
}

func (l *nvaLab) say(format string, args ...any) {
	if l.progress != nil {
		fmt.Fprintf(l.progress, format+"\n", args...)
	}
}

// start runs a program on a machine.
func (l *nvaLab) start(machine string, p program) (*process, error) {
	return l.topo.spaces[machine].run(l.logs, p, l.standing)
}

// startAppliance starts what the appliance is by itself, whoever fails it over: its data plane with the health
// endpoint, and the synchronisation of its connections.
func (l *nvaLab) startAppliance(ctx context.Context, name string) error {
	for _, p := range l.own[name] {
		p.kill()
	}
	l.own[name] = nil
	args := []string{"lab", "appliance", "--listen", addressOf(name, netOutside) + ":" + strconv.Itoa(healthPort)}
	if l.userSpace {
		args = append(args, "--user-space")
	}
	proc, err := l.start(name, program{name: name + "-appliance", path: l.binary, args: args})
	if err != nil {
		return err
	}
	l.own[name] = append(l.own[name], proc)
	sync, err := l.startConntrackd(name)
	if err != nil {
		return err
	}
	l.own[name] = append(l.own[name], sync)
	if !l.userSpace {
		return nil
	}
	return l.steerToUserSpace(ctx, name)
}

// appliance gives the process that is the appliance.
func (l *nvaLab) appliance(name string) *process { return l.own[name][0] }

const conntrackdConfig = `
Sync {
	Mode FTFW {
		DisableExternalCache yes
		StartupResync yes
	}
	UDP {
		IPv4_address LOCAL
		IPv4_Destination_Address PEER
		Port 3780
		Interface sync
		Checksum on
	}
}
General {
	Systemd no
	HashSize 8192
	HashLimit 65536
	LogFile DIR/conntrackd.log
	LockFile DIR/conntrackd.lock
	UNIX {
		Path DIR/conntrackd.ctl
	}
	NetlinkBufferSize 2097152
	NetlinkBufferSizeMaxGrowth 8388608
	Filter From Kernelspace {
		Protocol Accept {
			TCP
		}
	}
}
`

// startConntrackd starts the synchronisation of TCP connections with the other appliance. Both hold them in the kernel
// at all times (no external cache), so nothing has to be committed when the active one changes.
func (l *nvaLab) startConntrackd(name string) (*process, error) {
	dir, err := l.run.sub(name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "conntrackd.conf")
	config := strings.NewReplacer("LOCAL", addressOf(name, netSync), "PEER", addressOf(otherAppliance(name), netSync), "DIR", dir).
		Replace(conntrackdConfig)
	if err := writeFile(path, config); err != nil {
		return nil, err
	}
	removeFile(filepath.Join(dir, "conntrackd.lock"))
	removeFile(filepath.Join(dir, "conntrackd.ctl"))
	return l.start(name, program{name: name + "-conntrackd", path: "conntrackd", args: []string{"-C", path}})
}

// resync makes the survivor send its connections to an appliance that rebooted. It first reads them from its own kernel:
// those it had learned from the other one are not in its cache.
func (l *nvaLab) resync(ctx context.Context, survivor string) error {
	config := filepath.Join(l.run.path, survivor, "conntrackd.conf")
	for _, request := range []string{"-R", "-B"} {
		if _, err := l.topo.spaces[survivor].output(ctx, "conntrackd", "-C", config, request); err != nil {
			return err
		}
	}
	return nil
}

func otherAppliance(name string) string {
	if name == appliances[0] {
		return appliances[1]
	}
	return appliances[0]
}

// waitSessions waits until both appliances know every TCP flow's connection: then a move breaks none. One that does
// not know them all is sent them again. It tells whether they do in the end.
func (l *nvaLab) waitSessions(ctx context.Context, flows []Flow, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	sent := time.Now()
	for {
		missing := ""
		for _, name := range appliances {
			if l.unknownSessions(ctx, name, flows) > 0 {
				missing = name
			}
		}
		if missing == "" {
			return true
		}
		if time.Since(sent) > time.Second {
			sent = time.Now()
			_ = l.resync(ctx, otherAppliance(missing)) // a conntrackd that just starts refuses; the next turn asks again
		}
		if time.Now().After(deadline) || sleep(ctx, 50*time.Millisecond) != nil {
			return false
		}
	}
}

// unknownSessions counts the TCP flows whose connection the appliance does not track.
func (l *nvaLab) unknownSessions(ctx context.Context, name string, flows []Flow) (n int) {
	out, err := l.topo.spaces[name].output(ctx, "conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED")
	for _, f := range flows {
		if f.Kind == FlowTCP && (err != nil || !strings.Contains(out, fmt.Sprintf("dport=%d ", f.Port))) {
			n++
		}
	}
	return n
}
