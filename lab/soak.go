package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// soakRules lose every twentieth probe: its connection never comes about.
const soakRules = `
table inet nva-soak {
	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport 8080 tcp flags & (syn|ack) == syn numgen random mod 100 < 5 counter drop
	}
}
`

// runNVASoak loads both cores and the disk at the same priority as everything else and loses 5 % of the
// probes. Nobody dies: every failover would be false.
func runNVASoak(ctx context.Context, o Options) (r Result, err error) {
	if err := o.settle(); err != nil {
		return r, err
	}
	if len(o.Faults) > 0 {
		return r, refuse("fault", fmt.Sprint(o.Faults), "none: nobody dies in a soak")
	}
	if o.Duration == 0 {
		o.Duration = 2 * time.Minute
	}
	l, err := newNVALab(ctx, o, false)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return r, err
	}
	n := &nvaRun{nvaLab: l, o: o, r: &r}
	if err := n.startUnderstudy(ctx); err != nil {
		return r, err
	}
	defer func() { n.t.close() }()
	before, err := n.c.place(ctx)
	if err != nil {
		return r, err
	}
	for _, name := range appliances {
		if err := n.topo.spaces[name].ChangeTable(soakRules); err != nil {
			return r, err
		}
	}
	load, err := n.startLoad()
	if err != nil {
		return r, err
	}
	defer load.kill()
	n.say("soaking for %s: stress-ng on every core and the disk, 5 %% of the probes lost", o.Duration)
	from := time.Now()
	verdicts, err := n.watchVerdicts(ctx, from.Add(o.Duration))
	if err != nil {
		return r, err
	}
	alive := load.alive()
	load.kill()
	losses, err := n.t.window(from, time.Now().Add(-200*time.Millisecond))
	if err != nil {
		return r, err
	}
	if err := n.c.steady(ctx); err != nil {
		return r, err
	}
	after, err := n.c.place(ctx)
	if err != nil {
		return r, err
	}
	var lost int64
	for _, f := range losses {
		if slices.Contains(packetKinds, f.Flow.Kind) {
			lost += f.Lost
		}
	}
	moves := after.generation - before.generation
	r.figure(Figure{Name: "false_failovers", Value: float64(moves), Unit: "count", Fault: "soak"})
	r.figure(Figure{Name: "false_verdicts", Value: float64(verdicts), Unit: "count", Fault: "soak"})
	r.figure(Figure{Name: "lost_packets", Value: float64(lost), Unit: "count", Fault: "soak"})
	r.figure(Figure{Name: "duration", Value: o.Duration.Seconds(), Unit: "s", Fault: "soak"})
	r.check("no false failover", moves == 0, "%d in %s", moves, o.Duration)
	r.check("the load lasted", alive, "stress-ng ran to the end: %t", alive)
	return r, nil
}

// startLoad runs stress-ng on every core and the disk, at the priority everybody has.
func (n *nvaRun) startLoad() (*process, error) {
	dir := n.run.scratch()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return n.start("operator", program{name: "stress-ng", path: "stress-ng", dir: dir, args: []string{
		"--cpu", "0", "--hdd", "1", "--hdd-bytes", "64m", "--temp-path", dir, "--oomable"}})
}

// watchVerdicts counts, until the time, how often a member was not up: a verdict that moves nothing is still worth knowing.
func (n *nvaRun) watchVerdicts(ctx context.Context, until time.Time) (bad int, err error) {
	was := map[string]api.Health{}
	report := time.Now().Add(time.Minute)
	for time.Now().Before(until) {
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return bad, err
		}
		v, err := n.c.view(ctx)
		if err != nil {
			continue // a controller under load may answer late; the generation counts at the end
		}
		for name, h := range v.health {
			if was[name] == api.Up && h == api.Down {
				bad++
			}
			was[name] = h
		}
		if time.Now().After(report) {
			n.say("  %s to go: generation %d, %d false verdicts", time.Until(until).Round(time.Second), v.generation, bad)
			report = report.Add(time.Minute)
		}
	}
	return bad, nil
}
