package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/nbd"
)

// writeLimit is what no write of the source may take while something behind the capture fails, on a loaded machine.
const writeLimit = 5 * time.Second

func (o *Options) gone() time.Duration {
	if o.Gone > 0 {
		return o.Gone
	}
	return 20 * time.Second
}

// pathOutage fails something for a while.
type pathOutage struct {
	lasts time.Duration
	// keep begins it, and is called again and again while it lasts.
	keep func() error
	end  func() error
	// victim is the role that is killed -9 in the middle of it, and comes up while it lasts.
	victim string
}

func stopProcessServer(l *pathLab, o Options) pathOutage {
	p := l.procs[rolePS]
	return pathOutage{o.gone(), func() error { return p.signal(unix.SIGSTOP) }, func() error { return p.signal(unix.SIGCONT) }, roleProtect}
}

func shutVault(l *pathLab, o Options) pathOutage {
	d := l.doors[rolePS]
	return pathOutage{o.gone(), func() error { d.shut(); return nil }, func() error { d.open(); return nil }, rolePS}
}

// fills keeps a place full: what is freed there is taken away at once.
func fills(place string) func(*pathLab, Options) pathOutage {
	return func(l *pathLab, o Options) pathOutage {
		dir := l.full()[place]
		victim := map[string]string{placeSpool: rolePS, placeCapture: roleProtect, placeVault: roleStore}[place]
		return pathOutage{o.gone() / 2, func() error { return l.m.fill(dir, 4<<10) }, func() error { return l.m.free(dir) }, victim}
	}
}

// outage lets something fail for a while. The source must not notice; afterwards everything is well again by itself.
func (k *pathRun) outage(ctx context.Context, f pathFault) error {
	k.say("%s: %s", f.name, f.about)
	if f.run != nil {
		return f.run(ctx, k.pathLab, k.r)
	}
	if err := k.whole(ctx); err != nil {
		return err
	}
	k.load.slowest()
	failed, before := k.load.errors(), k.h.writes()
	x := f.outage(k.pathLab, k.o)
	felt, err := k.endure(ctx, x)
	slowest, written := k.load.slowest(), k.h.writes()-before
	if err := errors.Join(err, x.end()); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	healed := time.Now()
	if _, err := k.until(ctx, roleProtect, "well", settleLimit, func(s api.EngineState) bool {
		return s.Protection == "protected" && s.RPO.D() < 3*time.Second
	}); err != nil {
		return fmt.Errorf("after %s: %w\n%s", f.name, err, k.tail(rolePS))
	}
	closed := time.Since(healed)
	if err := k.same(ctx, f.name); err != nil {
		return fmt.Errorf("after %s: %w", f.name, err)
	}
	slowest, errs := max(slowest, k.load.slowest()), k.load.errors()-failed
	k.r.figure(Figure{Name: "write_max", Value: milliseconds(slowest), Unit: "ms", Fault: f.name})
	k.r.figure(Figure{Name: "writes", Value: float64(written), Unit: "count", Fault: f.name})
	k.r.check("the source does not notice "+f.name, slowest < writeLimit && errs == 0 && written > 0 && felt != "",
		"%d writes in %v, the slowest took %v, %d errors; in the middle kill -9 of %s; others: %s; well again after %v", written, x.lasts, slowest.Round(time.Millisecond), errs, x.victim, felt, closed.Round(100*time.Millisecond))
	return nil
}

// endure keeps an outage up for its time, and tells what the engines say of it; "" if nobody but the lab knows of it.
func (k *pathRun) endure(ctx context.Context, x pathOutage) (felt string, err error) {
	gap, rpo, codes, killed := false, time.Duration(0), map[string]bool{}, false
	for began := time.Now(); time.Since(began) < x.lasts; {
		if err := errors.Join(x.keep(), sleep(ctx, 200*time.Millisecond)); err != nil {
			return "", err
		}
		if !killed && time.Since(began) > x.lasts/2 {
			if err := k.killOnce(x.victim); err != nil {
				return "", err
			}
			killed = true
		}
		for _, role := range []string{roleProtect, rolePS} {
			limited, cancel := context.WithTimeout(ctx, time.Second)
			s, err := k.homes[role].Ask(limited)
			if cancel(); err != nil {
				continue // it stands still
			}
			gap, rpo = gap || s.Protection == "gap", max(rpo, s.RPO.D())
			for _, c := range s.Conditions {
				codes[c.Code] = true
			}
		}
	}
	var all []string
	if gap {
		all = append(all, "a gap")
	}
	if rpo > 3*time.Second {
		all = append(all, fmt.Sprintf("RPO %.1f s", rpo.Seconds()))
	}
	return strings.Join(append(all, slices.Sorted(maps.Keys(codes))...), ", "), nil
}

// killOnce kills a role and starts it again.
func (k *pathRun) killOnce(role string) error {
	k.procs[role].kill()
	k.kills[role+" in an outage"]++
	if role == roleProtect {
		if err := k.onDisk(); err != nil {
			return k.found(fmt.Errorf("on the protected disk after kill -9: %w", err))
		}
	}
	return k.start(role)
}

func (l *load) errors() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// fillSite runs the machine from the newest point on a file system that gets full: writes wait until there is room, and none
// fails.
func fillSite(ctx context.Context, l *pathLab, r *Result) error {
	points := l.watch.newest()
	if len(points) == 0 {
		return fmt.Errorf("there is no point to run from")
	}
	site := api.SiteConfig{Machine: pathMachine, UID: pathUID, Instance: "drill", Drill: true, Vault: l.vault(l.store), Stream: pathStream,
		Seq: points[len(points)-1].Seq, Mode: "writable"}
	for _, name := range guestDisks {
		site.Disks = append(site.Disks, api.MachineDisk{Name: name})
	}
	if err := l.configure(roleSite, api.Section{Engine: api.EngineSite, Owner: "d", Generation: 1, Site: &site}); err != nil {
		return err
	}
	if err := l.start(roleSite); err != nil {
		return err
	}
	defer l.procs[roleSite].kill()
	if _, err := l.until(ctx, roleSite, "running", settleLimit, func(s api.EngineState) bool { return s.Phase == "running" }); err != nil {
		return fmt.Errorf("%w\n%s", err, l.tail(roleSite))
	}
	c, err := nbd.Dial(ctx, "unix", string(l.homes[roleSite])+"/disk.sock", guestDisks[0], nbd.DialOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	dir := l.full()[placeSite]
	if err := l.m.fill(dir, 1<<20); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	pattern := []byte(strings.Repeat("understudy waits", 64<<10/16))
	go func() {
		for off := int64(0); off < guestDiskSize; off += int64(len(pattern)) {
			if err := c.WriteAt(ctx, pattern, off, false); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- c.Flush(ctx)
	}()
	s, err := l.until(ctx, roleSite, "paused", settleLimit, func(s api.EngineState) bool { return s.Phase == "paused" })
	if err != nil {
		return err
	}
	var ended error
	waited := false
	select {
	case ended = <-wrote:
	case <-time.After(2 * time.Second):
		waited = true
	}
	if err := l.m.free(dir); err != nil {
		return err
	}
	if waited {
		select {
		case ended = <-wrote:
		case <-time.After(settleLimit):
			ended = fmt.Errorf("it still waits %v after there is room", settleLimit)
		}
	}
	held := 0
	p := make([]byte, len(pattern))
	for off := int64(0); off < guestDiskSize && ended == nil; off += int64(len(p)) {
		if ended = c.ReadAt(ctx, p, off); ended == nil && string(p) == string(pattern) {
			held += len(p)
		}
	}
	r.check("a recovered machine waits for room", waited && ended == nil && held == guestDiskSize, "phase %s; then it went on: %v; %d of %d bytes are there (%v)",
		s.Phase, waited, held, guestDiskSize, ended)
	return nil
}
