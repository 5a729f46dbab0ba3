package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// captureLoad is offered to a disk with and without protection.
type captureLoad struct {
	workload
	short string // what is written, in names of figures
	fixed bool   // at a rate that the machine can do: the goals hold
}

var captureLoads = []captureLoad{
	{workload{"5000 iops of 4k", "iops", []string{"--rw=randwrite", "--bs=4k", "--iodepth=32", "--rate_iops=5000"}}, "4k", true},
	{workload{"100 MiB/s of 1M", "MiB/s", []string{"--rw=write", "--bs=1M", "--iodepth=8", "--rate=100m"}}, "1m", true},
	{workload{"unlimited 4k", "iops", []string{"--rw=randwrite", "--bs=4k", "--iodepth=32"}}, "4k", false},
	{workload{"unlimited 1M", "MiB/s", []string{"--rw=write", "--bs=1M", "--iodepth=8"}}, "1m", false},
}

const (
	sourceCore, farCore = 0, 1
	rpoGoal             = 2 * time.Second
	watchEvery          = 100 * time.Millisecond
)

// benchCapture compares a disk that the engine protect captures and ships with the same disk exported plainly. Guest and source share
// one core, process server and vault have another.
func benchCapture(ctx context.Context, o options, dir, far string, r *report) error {
	for i, l := range captureLoads {
		n := strconv.Itoa(i)
		if err := captureOnce(ctx, o, l, filepath.Join(dir, n), filepath.Join(far, n+"-far"), r); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// captureOnce measures one load on a machine that is new, so that one load's backlog does not fall on another.
func captureOnce(ctx context.Context, o options, l captureLoad, dir, far string, r *report) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(far)) }()
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(far, 0o700)); err != nil {
		return err
	}
	for _, name := range []string{"plain.raw", "protected.raw"} {
		if err := fill(filepath.Join(dir, name), o.size); err != nil {
			return err
		}
	}
	plain, err := serveOurs(ctx, o, sourceCore, filepath.Join(dir, "plain.raw"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.stop()) }()
	plain.name = "plain"
	s, err := newSites(o, filepath.Join(far, "vault"))
	if err != nil {
		return err
	}
	src, stop, err := s.protect(ctx, filepath.Join(dir, "protected.raw"), filepath.Join(dir, "source"), filepath.Join(far, "ps"))
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	protected := target{process: src.process, uri: at(src.disk(), "root"), size: o.size, core: sourceCore}
	w := &watch{e: src}
	if err := w.settle(ctx); err != nil { // the initial copy
		return err
	}
	*w = watch{e: src}
	rounds := o.rounds
	if !l.fixed {
		rounds = (rounds + 2) / 3 // stated, not judged; and each leaves gigabytes to ship
	}
	with, without, err := abba(rounds, func() (sample, error) { return w.measure(ctx, protected, l, o.seconds) },
		func() (sample, error) { return plain.fio(ctx, l.workload, o.seconds) },
		func(i int, a, b sample) {
			say("%s round %d/%d: %.0f beside %.0f %s, ratio %.3f, p99 %.0f beside %.0f µs, %.1f s in a gap", l.name, i, rounds, a.value, b.value, l.unit,
				a.value/b.value, a.p99, b.p99, w.gap.Seconds())
		})
	if err != nil {
		return err
	}
	w.report(r, l, with, without)
	return nil
}

// protect runs the two engines. The disk is new to them: its initial copy begins. stop ends what was started, whatever the error.
func (s *sites) protect(ctx context.Context, disk, home, psHome string) (src *engine, stop func() error, err error) {
	var ps *engine
	stop = func() (err error) {
		for _, e := range []*engine{src, ps} {
			if e != nil && e.process != nil {
				err = errors.Join(err, e.stop())
			}
		}
		return err
	}
	port, err := freePort()
	if err != nil {
		return nil, stop, err
	}
	ps, err = s.run(ctx, psHome, "ps", farCore, api.Section{Engine: api.EngineProcessServer, Owner: "bench", Generation: 1,
		ProcessServer: &api.ProcessServerConfig{Name: "ps", Listen: port, Streams: []api.AcceptedStream{{Machine: "default/m", UID: "m", Stream: "m-1",
			Epoch: 1, Node: "default/source", Vault: s.access(false), Base: "none"}}}})
	if err != nil {
		return nil, stop, err
	}
	src, err = s.run(ctx, home, "source", sourceCore, api.Section{Engine: api.EngineProtect, Owner: "bench", Generation: 1,
		Protect: &api.ProtectConfig{Machine: "default/m", UID: "m", Stream: "m-1", Mode: "writable", Disks: []api.MachineDisk{{Name: "root", Path: disk}},
			ProcessServers: []string{port}, CrashEvery: api.Duration(5 * time.Second)}})
	return src, stop, err
}

// watch looks at a protected machine while it is measured.
type watch struct {
	e    *engine
	gap  time.Duration // in which it was not protected
	rpo  []time.Duration
	last api.EngineState
}

// measure offers a load, and waits until everything is stored, so that nothing of it falls on the next measurement.
func (w *watch) measure(ctx context.Context, t target, l captureLoad, seconds int) (sample, error) {
	during, cancel := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- w.until(during, func() bool { return false }) }()
	s, err := t.fio(ctx, l.workload, seconds)
	cancel()
	if failed := <-watched; !errors.Is(failed, context.Canceled) {
		err = errors.Join(err, failed)
	}
	if err != nil {
		return s, err
	}
	return s, w.settle(ctx)
}

// settle waits until the machine is protected and everything is stored.
func (w *watch) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := w.until(ctx, func() bool { return w.last.Phase == "protected" && w.last.Dirty == 0 }); err != nil {
		return fmt.Errorf("%w: the machine is still %+v", err, w.last)
	}
	return nil
}

// until looks again and again.
func (w *watch) until(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	before := time.Now()
	for {
		s, err := w.e.home.Ask(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case !s.Changes.Hold():
			return fmt.Errorf("captured = stored + dirty does not hold: %+v", s.Changes)
		}
		now := time.Now()
		if w.last = s; s.Phase != "protected" {
			w.gap += now.Sub(before)
		}
		w.rpo, before = append(w.rpo, s.RPO.D()), now
		if ok() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// report notes figures, and judges those of a fixed load.
func (w *watch) report(r *report, l captureLoad, with, without []sample) {
	slices.Sort(w.rpo)
	p50, p99 := w.rpo[len(w.rpo)/2], w.rpo[len(w.rpo)*99/100]
	r.contenders(l.workload, with, without, "plain export")
	name, values := "capture_ratio_"+l.short, byRound(with, without, rate)
	_, p99Ratio, _ := medianInterval(byRound(with, without, tail))
	r.figure("p99_ratio", p99Ratio, "ratio", "plain export", l.name)
	r.figure("gap_seconds", w.gap.Seconds(), "s", "", l.name)
	r.figure("rpo_p50", float64(p50.Milliseconds()), "ms", "", l.name)
	r.figure("rpo_p99", float64(p99.Milliseconds()), "ms", "", l.name)
	if !l.fixed {
		r.ratios(name, values, "plain export", l.name)
		return
	}
	r.atLeast(0.95, name, values, "plain export", l.name)
	r.check("no gap at "+l.name, w.gap == 0, "%.1f s in a gap", w.gap.Seconds())
	r.check("received RPO at "+l.name, p99 <= rpoGoal, "p50 %v, p99 %v of %d samples, goal %v; the process server's own p99 over ten minutes, "+
		"the initial copy included: %v", p50, p99, len(w.rpo), rpoGoal, w.last.RPOp99.D())
}
