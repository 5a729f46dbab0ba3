package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

const (
	bootLimit = 3 * time.Minute // a guest under emulation, on a loaded host
	jobLimit  = 4 * time.Minute
)

// startMachine builds the sites and waits until the machine runs at P and is protected.
func startMachine(ctx context.Context, o Options, r *Result, rate float64) (l *machineLab, err error) {
	if l, err = newMachineLab(ctx, o, r); err != nil {
		return l, err
	}
	l.say("two sites, three controllers, four agents; the machine %s runs at p", machine)
	return l, l.beginMachine(ctx, rate, func(ctx context.Context) error {
		_, _, err := l.waitService(ctx, "p1", servicePort, time.Now(), bootLimit)
		return err
	})
}

// beginMachine builds the machine's disk, describes everything, and waits until the machine answers and is protected.
func (l *machineLab) beginMachine(ctx context.Context, rate float64, answers func(context.Context) error) error {
	if err := l.buildGuest(ctx, rate); err != nil {
		return err
	}
	began := time.Now()
	resources, err := l.resources()
	if err != nil {
		return err
	}
	if err := l.apply(ctx, resources...); err != nil {
		return err
	}
	if err := answers(ctx); err != nil {
		return err
	}
	l.say("its service answers at p after %.1f s", time.Since(began).Seconds())
	_, err = l.waitMachine(ctx, "protected", bootLimit, func(s api.MachineStatus) bool { return s.ProtectionState == api.Protected })
	if err == nil {
		l.say("protected after %.1f s", time.Since(began).Seconds())
	}
	return err
}

// sampleRPO looks at the received RPO for a while.
func (l *machineLab) sampleRPO(ctx context.Context, d time.Duration) error {
	var all []float64
	balanced, samples := true, 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		m, err := l.machine()
		if err == nil && m.Status.Replication != nil {
			p := m.Status.Replication
			all = append(all, milliseconds(p.RPO.D()))
			balanced = balanced && p.Captured == p.Stored+p.Dirty
			samples++
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	if samples == 0 {
		return errors.New("nobody told of the RPO")
	}
	slices.Sort(all)
	at := func(q float64) float64 { return all[min(len(all)-1, int(q*float64(len(all))))] }
	l.r.figure(Figure{Name: "rpo_p50", Value: at(0.5), Unit: "ms"})
	l.r.figure(Figure{Name: "rpo_p99", Value: at(0.99), Unit: "ms"})
	l.r.check("the RPO is that of the field", at(0.99) <= 5000, "received RPO: median %.0f ms, 99 %% %.0f ms, %d samples", at(0.5), at(0.99), samples)
	l.r.check("every captured write is stored or marked dirty", balanced, "captured = stored + dirty at each of %d samples", samples)
	return nil
}

// runDrill protects a machine and rehearses its recovery while it goes on.
func runDrill(ctx context.Context, o Options) (r Result, err error) {
	if len(o.Faults) > 0 {
		return r, refuse("fault", fmt.Sprint(o.Faults), "none: a drill breaks nothing")
	}
	l, err := startMachine(ctx, o, &r, 20)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return r, err
	}
	if err := l.sampleRPO(ctx, 10*time.Second); err != nil {
		return r, err
	}
	var times []float64
	for i := range o.rounds(3) {
		took, err := l.rehearse(ctx, i+1)
		if err != nil {
			return r, err
		}
		times = append(times, milliseconds(took))
	}
	slices.Sort(times)
	r.figure(Figure{Name: "rto_p50", Value: times[len(times)/2], Unit: "ms", Fault: "drill"})
	s, err := l.waitMachine(ctx, "the drill is noted", 10*time.Second, func(s api.MachineStatus) bool { return s.LastDrill != nil })
	if err != nil {
		return r, err
	}
	r.check("the drill counts", s.LastDrill.Passed, "tested and cleaned up: %q", s.LastDrill.Notes)
	return r, nil
}

// rehearse runs one drill: it boots from the latest point in isolation, its data are whole, the source goes on, and nothing is left of it.
func (l *machineLab) rehearse(ctx context.Context, n int) (took time.Duration, err error) {
	before, err := l.service(ctx, "p1", servicePort)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	job, err := l.operate(ctx, api.Operation{Operation: api.OpTestFailover})
	if err != nil {
		return 0, err
	}
	s, took, err := l.waitService(ctx, "r1", drillPort, began, bootLimit)
	if err != nil {
		_, jobErr := l.waitJob(ctx, job, time.Second)
		return 0, errors.Join(err, jobErr)
	}
	if _, err := l.waitJob(ctx, job, jobLimit); err != nil {
		return 0, err
	}
	after, err := l.service(ctx, "p1", servicePort)
	if err != nil {
		return 0, err
	}
	name := fmt.Sprintf("drill %d", n)
	l.r.check(name+" finds the data whole", s.Verified && s.Found >= before.Seq, "record %d and all before it; the source had written %d when it began (%s)", s.Found, before.Seq, s.Wrong)
	l.r.check(name+" leaves the source alone", after.Seq > before.Seq && after.UptimeSeconds > before.UptimeSeconds, "it wrote on, from record %d to %d", before.Seq, after.Seq)
	l.say("  drill %d: answers after %.1f s, at record %d", n, took.Seconds(), s.Found)
	if _, err := l.do(ctx, api.Operation{Operation: api.OpTestFailoverCleanup, Notes: "rehearsed by the lab"}, jobLimit); err != nil {
		return 0, err
	}
	_, err = l.service(ctx, "r1", drillPort)
	l.r.check(name+" is cleaned up", err != nil, "its service answers no more")
	return took, nil
}
