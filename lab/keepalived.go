package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keepalived is the peer: two VRRP instances a side, outside and inside, that move together; the routers' next hops
// are its virtual addresses.
type keepalived struct {
	l      *nvaLab
	advert time.Duration
	procs  map[string]*process
}

func newKeepalived(l *nvaLab, advert time.Duration) *keepalived {
	return &keepalived{l: l, advert: advert, procs: map[string]*process{}}
}

func (k *keepalived) name() string {
	return "keepalived-" + k.advert.String()
}

// keepalivedConfig has priorities that differ, and no preemption: the recovered one stays behind, as Understudy's does.
const keepalivedConfig = `
global_defs {
	router_id MACHINE
	vrrp_version 3
}
vrrp_sync_group pair {
	group {
		outside
		inside
	}
}
vrrp_instance outside {
	state BACKUP
	nopreempt
	interface out
	virtual_router_id 51
	priority PRIORITY
	advert_int ADVERT
	virtual_ipaddress {
		` + outsideVIP + `/24 dev out
	}
}
vrrp_instance inside {
	state BACKUP
	nopreempt
	interface in
	virtual_router_id 52
	priority PRIORITY
	advert_int ADVERT
	virtual_ipaddress {
		` + insideVIP + `/24 dev in
	}
}
`

func (k *keepalived) start(ctx context.Context) error {
	if err := k.l.topo.point(outsideVIP, insideVIP); err != nil {
		return err
	}
	for _, name := range appliances {
		if err := k.startOn(ctx, name); err != nil {
			return err
		}
	}
	return k.steady(ctx)
}

func (k *keepalived) startOn(_ context.Context, name string) error {
	dir, err := k.l.run.sub(name)
	if err != nil {
		return err
	}
	priority := 150 - 50*slices.Index(appliances, name)
	config := strings.NewReplacer("MACHINE", name, "PRIORITY", fmt.Sprint(priority), "ADVERT", fmt.Sprint(k.advert.Seconds())).
		Replace(keepalivedConfig)
	path := filepath.Join(dir, "keepalived.conf")
	if err := writeFile(path, config); err != nil {
		return err
	}
	for _, pid := range []string{"keepalived.pid", "vrrp.pid"} {
		removeFile(filepath.Join(dir, pid))
	}
	proc, err := k.l.start(name, program{name: name + "-" + k.name(), path: "keepalived", args: []string{
		"--use-file", path, "--dont-fork", "--log-console", "--vrrp",
		"--pid", filepath.Join(dir, "keepalived.pid"), "--vrrp_pid", filepath.Join(dir, "vrrp.pid")}})
	if err != nil {
		return err
	}
	k.procs[name] = proc
	return nil
}

// active is who has both addresses; "" while it is nobody, or they are apart.
func (k *keepalived) active(context.Context) (string, error) {
	holder := ""
	for _, name := range appliances {
		held := 0
		for link, vip := range map[string]string{netOutside: outsideVIP, netInside: insideVIP} {
			all, err := k.l.topo.spaces[name].addresses(link)
			if err != nil {
				return "", err
			}
			if slices.Contains(all, vip+"/24") {
				held++
			}
		}
		if held == 2 && holder == "" {
			holder = name
		} else if held > 0 {
			return "", nil
		}
	}
	return holder, nil
}

// steady waits until one has both addresses, and gives the other the time to hear of it.
func (k *keepalived) steady(ctx context.Context) error {
	limit := 10*k.advert + 10*time.Second
	deadline := time.Now().Add(limit)
	for {
		holder, err := k.active(ctx)
		if err != nil {
			return err
		}
		if holder != "" {
			return sleep(ctx, 2*k.advert+500*time.Millisecond)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: nobody holds both addresses after %s", k.name(), limit)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (k *keepalived) stop(context.Context) error {
	for _, p := range k.procs {
		p.stop(3 * time.Second)
	}
	for _, name := range appliances {
		for _, c := range cables {
			if c.machine == name {
				if err := k.l.topo.spaces[name].dropForeignAddresses(c); err != nil {
					return err
				}
			}
		}
	}
	return k.l.topo.unpoint()
}
