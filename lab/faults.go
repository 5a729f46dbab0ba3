package lab

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// fault is something that can happen to the active appliance.
type fault struct {
	name  string
	about string
	// userSpace: the appliances forward in user space, so that the process is the data plane.
	userSpace bool
	inject    func(ctx context.Context, l *nvaLab, active string) error
	// heal puts the appliance right again.
	heal func(ctx context.Context, l *nvaLab, name string) error
	// limit of Understudy's median outage with fabric effects and the fast profile.
	limit time.Duration
	// reboots: the contender's own processes died too and are started again after heal.
	reboots bool
}

// dataNetworks are where an appliance's traffic goes.
var dataNetworks = []string{netOutside, netInside}

var applianceFaults = []fault{
	{
		name: "node", about: "the active appliance's links go down and all its processes are killed",
		inject: func(_ context.Context, l *nvaLab, active string) error { return l.crash(active) },
		heal:   func(ctx context.Context, l *nvaLab, name string) error { return l.reboot(ctx, name) },
		limit:  150 * time.Millisecond, reboots: true,
	},
	{
		name: "link", about: "the active appliance's data links lose their carrier",
		inject: func(_ context.Context, l *nvaLab, active string) error {
			return l.topo.setPorts(false, portsOf(active, dataNetworks...)...)
		},
		heal: func(_ context.Context, l *nvaLab, name string) error {
			return l.topo.setPorts(true, portsOf(name, dataNetworks...)...)
		},
		limit: 150 * time.Millisecond,
	},
	{
		name: "link-silent", about: "the switch drops the active appliance's data frames, with the carrier up",
		inject: func(ctx context.Context, l *nvaLab, active string) error {
			return l.topo.silence(ctx, active, dataNetworks...)
		},
		heal: func(ctx context.Context, l *nvaLab, name string) error {
			return l.topo.restore(ctx, name, dataNetworks...)
		},
		limit: 150 * time.Millisecond,
	},
	{
		name: "process", about: "the active appliance's process, which forwards in user space, is killed",
		userSpace: true,
		inject: func(_ context.Context, l *nvaLab, active string) error {
			l.appliance(active).kill()
			return nil
		},
		heal:  func(ctx context.Context, l *nvaLab, name string) error { return l.startAppliance(ctx, name) },
		limit: 300 * time.Millisecond,
	},
	{
		name: "freeze", about: "the active appliance's process, which forwards in user space, is stopped (SIGSTOP)",
		userSpace: true,
		inject: func(_ context.Context, l *nvaLab, active string) error {
			return l.appliance(active).signal(unix.SIGSTOP)
		},
		heal: func(_ context.Context, l *nvaLab, name string) error {
			return l.appliance(name).signal(unix.SIGCONT)
		},
		limit: 300 * time.Millisecond,
	},
}
