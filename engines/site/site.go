// Package site is the engine of a machine that runs from a recovery point: in a drill,
// after a failover, or back home. Its disks are volumes over the point: they are there at
// once, whatever their size, and become whole files in the background. One process an
// instance.
package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/live"
	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/vault"
	"github.com/understudy-ha/understudy/volume"
)

type engine struct {
	home  engines.Home
	marks *engines.Marks

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
	poke chan struct{}

	check checker

	setting   sync.Mutex // held while a config is taken up, which may take a while
	hydrating bool       // the volumes become whole; Set's alone

	mu      sync.Mutex // held for moments; what follows is changed by Set alone
	cfg     engines.Config
	vault   *engines.OpenedVault
	locks   engines.DiskLocks // of disks in place
	view    *vault.View
	volumes []*volume.Volume
	machine *live.Machine
	failed  error     // why the config could not be taken up
	failing time.Time // since when
	ended   string
	// The rest is everybody's.
	shipNo error // why shipping has not begun
	told   bool  // this process knows what the far side has
	since  time.Time
	phase  string
}

// New makes the engine of a home.
func New(ctx context.Context, h engines.Home) (engines.Engine, error) {
	marks, err := h.OpenMarks()
	if err != nil {
		return nil, err
	}
	e := &engine{home: h, marks: marks, since: time.Now().UTC(), poke: make(chan struct{}, 1)}
	e.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.work.Go(e.keepShipping)
	return e, nil
}

// Set implements engines.Engine.
func (e *engine) Set(ctx context.Context, c engines.Config) error {
	e.setting.Lock()
	defer e.setting.Unlock()
	e.mu.Lock()
	if was := e.cfg.Section.Site; was == nil || c.Section.Site == nil || !same(runOf(was), runOf(c.Section.Site)) {
		e.failed, e.failing = nil, time.Time{} // another run's failure is not this one's
	}
	e.cfg = c
	e.mu.Unlock()
	err := e.take(ctx, c)
	e.mu.Lock()
	switch {
	case err == nil:
		e.failing = time.Time{}
	case e.failing.IsZero():
		e.failing = time.Now()
	}
	e.failed = err
	e.mu.Unlock()
	select {
	case e.poke <- struct{}{}:
	default:
	}
	return err
}

func (e *engine) take(ctx context.Context, c engines.Config) error {
	p := c.Section.Site
	if p == nil {
		return errors.New("the section has no site payload")
	}
	if ending(p) {
		return e.end(ctx, p)
	}
	if p.Mode == "readonly" && !e.runs(p) {
		return e.rest(ctx, c)
	}
	e.setEnded("")
	if s := e.spec(c); e.machine != nil && (!e.runs(p) || !e.machine.Fits(s)) {
		if err := e.machine.MayReopen(c.Confirmed || p.Drill, s.Access); err != nil {
			return err
		}
	}
	if e.machine != nil && !e.runs(p) {
		if err := errors.Join(e.machine.StopVM(ctx, p.StopTimeout.D()), e.close()); err != nil {
			return err
		}
	}
	if e.machine != nil && !e.machine.Fits(e.spec(c)) {
		if err := e.close(); err != nil {
			return err
		}
	}
	if e.machine == nil {
		if err := e.open(ctx, c); err != nil {
			return errors.Join(err, e.close())
		}
	}
	for _, v := range e.volumes {
		v.SetQuota(p.QuotaBytes)
	}
	if p.Hydrate && e.view != nil && !e.hydrating {
		e.hydrating = true
		volumes := e.volumes
		e.work.Go(func() { e.hydrate(volumes, p.HydrateKbps) })
	}
	if err := e.machine.Set(ctx, e.spec(c)); err != nil {
		return err
	}
	if p.Mode == "writable" && (p.Run || p.VM == nil) {
		e.check.begin(e.ctx, &e.work, p.Check, e.reached, e.screenshot)
	} else {
		e.check.end()
	}
	return nil
}

func (e *engine) setEnded(how string) {
	e.mu.Lock()
	e.ended = how
	e.mu.Unlock()
}

// end stops the machine, and with discard takes its files away.
func (e *engine) end(ctx context.Context, p *api.SiteConfig) error {
	if ended := map[string]string{"off": "stopped", "discard": "discarded"}[p.Mode]; ended != e.ended {
		e.setEnded("")
	}
	if err := e.letGo(ctx, p); err != nil {
		return err
	}
	if p.Mode != "discard" {
		e.setEnded("stopped")
		return nil
	}
	if err := e.discard(p.Disks, p.InPlace); err != nil {
		return err
	}
	e.setEnded("discarded")
	return nil
}

// letGo stops the virtual machine and closes the disks.
func (e *engine) letGo(ctx context.Context, p *api.SiteConfig) (err error) {
	e.check.end()
	name := filepath.Base(p.Machine)
	switch gone := p.Mode == "discard" && !p.InPlace; { // nobody will ever read what it would still write
	case e.machine != nil && gone:
		err = e.machine.CutVM(ctx)
	case e.machine != nil:
		err = e.machine.StopVM(ctx, p.StopTimeout.D())
	case p.VM == nil:
	case gone: // it may run although this process did not start it
		err = engines.CutVM(ctx, e.home, name)
	default:
		err = engines.StopVM(ctx, e.home, name, p.StopTimeout.D())
	}
	return errors.Join(err, e.close())
}

// path is where a disk's file lies.
func (e *engine) path(d api.MachineDisk) string {
	return cmp.Or(d.Path, filepath.Join(e.home.Data(), "disk-"+d.Name+".raw"))
}

// open opens the point and the volumes over it, and takes up the machine.
func (e *engine) open(ctx context.Context, c engines.Config) (err error) {
	p := c.Section.Site
	if p.InPlace {
		if e.locks, err = engines.LockDisks(p.Disks); err != nil {
			return err
		}
	}
	var v *engines.OpenedVault
	var view *vault.View
	if !e.runs(p) || e.marks.Get(hydrated) == "" { // the point first: where it cannot be read, nothing has begun
		if v, err = c.OpenVault(ctx, p.Vault, e.home.Data()); err != nil {
			return err
		}
		e.mu.Lock()
		e.vault = v
		e.mu.Unlock()
		if !p.Drill {
			if err := fence(ctx, v, p.Stream, uint64(max(c.Section.Generation, 0))); err != nil {
				return fmt.Errorf("fence stream %s: %w", p.Stream, err)
			}
		}
		if view, err = v.View(ctx, p.Stream, p.Seq); err != nil {
			return err
		}
		e.mu.Lock()
		e.view = view
		e.mu.Unlock()
	}
	if err := e.replace(ctx, c); err != nil {
		return err
	}
	volumes, err := openVolumes(ctx, view, p, e.path)
	e.mu.Lock()
	e.volumes = volumes
	e.mu.Unlock()
	if err != nil {
		return err
	}
	var lowers []nbd.Backend
	for _, v := range volumes {
		lowers = append(lowers, v)
	}
	m, err := live.Open(ctx, e.home, e.marks, lowers, e.spec(c))
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.machine = m
	e.mu.Unlock()
	return nil
}

// openVolumes opens the disks over a view; without one they are whole. On an error it gives those that are open.
func openVolumes(ctx context.Context, view *vault.View, p *api.SiteConfig, path func(api.MachineDisk) string) (out []*volume.Volume, err error) {
	if view != nil && view.Disks() != len(p.Disks) {
		return nil, fmt.Errorf("stream %s has %d disks, the machine %d", p.Stream, view.Disks(), len(p.Disks))
	}
	for i, d := range p.Disks {
		v, err := openVolume(ctx, view, p, i, path(d))
		if err != nil {
			return out, fmt.Errorf("disk %s: %w", d.Name, err)
		}
		out = append(out, v)
	}
	return out, nil
}

func openVolume(ctx context.Context, view *vault.View, p *api.SiteConfig, i int, path string) (*volume.Volume, error) {
	cfg := volume.Config{Path: path, QuotaBytes: p.QuotaBytes, InPlace: p.InPlace}
	if view == nil {
		return volume.Open(cfg)
	}
	vd := view.Disk(i)
	cfg.Base = base{vd}
	if p.InPlace {
		err := vd.InStream(ctx, 0, vd.Size(), func(off, n int64) bool {
			cfg.Missing = append(cfg.Missing, volume.Range{Off: off, Len: n})
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return volume.Open(cfg)
}

// fence takes a stream from whoever wrote it under an older generation. The old side may not know yet that the machine runs here: what it
// wrote since stays with it, and is found there when the two sides compare.
func fence(ctx context.Context, v *engines.OpenedVault, stream string, epoch uint64) error {
	info, err := v.Stream(ctx, stream)
	if err != nil || info.Epoch >= epoch {
		return err
	}
	w, err := v.Writer(ctx, vault.StreamSpec{ID: stream, Epoch: epoch, Machine: info.Machine, Disks: info.Disks, Base: info.Base})
	if err != nil {
		return err
	}
	return w.Close()
}

// base makes a view's disk what volumes stand on.
type base struct{ *vault.ViewDisk }

// ReadAt implements volume.Base.
func (b base) ReadAt(ctx context.Context, p []byte, off int64) error {
	_, err := b.ViewDisk.ReadAt(ctx, p, off)
	return err
}

// spec is how the machine is to live. A drill's disks are its own: writing them needs nobody's word.
func (e *engine) spec(c engines.Config) live.Spec {
	p := c.Section.Site
	e.mu.Lock()
	blocking := e.view != nil
	e.mu.Unlock()
	s := live.Spec{Machine: p.Machine, UID: p.UID, Stream: cmp.Or(p.Capture, p.Instance), Epoch: uint64(max(c.Section.Generation, 0)), Disks: p.Disks,
		Initial: []capture.Range{}, Listen: p.Listen, Blocking: blocking, VM: p.VM, Run: p.Run, StopTimeout: p.StopTimeout.D(), Yield: p.Yield, Config: c}
	switch {
	case p.Mode == "readonly":
		s.Access = disk.ReadOnly
	case p.Drill || c.Confirmed:
		s.Access = disk.Writable
	}
	if p.Ship != nil && e.marks.Get("ship") == p.Capture {
		s.ProcessServers, s.CrashEvery, s.AppEvery = p.Ship.ProcessServers, p.Ship.CrashEvery.D(), p.Ship.AppEvery.D()
		s.PreScript, s.PostScript, s.PointNow, s.PointApp = p.Ship.PreScript, p.Ship.PostScript, p.Ship.PointNow, p.Ship.PointApp
	}
	return s
}

// hydrate makes the files whole disks.
func (e *engine) hydrate(volumes []*volume.Volume, kbps int64) {
	for _, v := range volumes {
		for e.ctx.Err() == nil {
			err := v.Hydrate(e.ctx, kbps*1000/8, nil)
			if err == nil && v.Complete() {
				break
			}
			if errors.Is(err, volume.ErrClosed) {
				return
			}
			select { // what failed is tried again: the vault may be back
			case <-e.ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
	}
	for e.noteHydrated(volumes) != nil {
		select {
		case <-e.ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
}

// noteHydrated notes that the volumes are whole, unless they are of a run that is over.
func (e *engine) noteHydrated(volumes []*volume.Volume) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil || len(volumes) == 0 || len(volumes) != len(e.volumes) || volumes[0] != e.volumes[0] {
		return nil
	}
	return e.marks.Set(hydrated, "yes")
}

// close lets go of everything but the virtual machine.
func (e *engine) close() (err error) {
	e.mu.Lock()
	machine, volumes, view, v := e.machine, e.volumes, e.view, e.vault
	e.machine, e.volumes, e.view, e.vault, e.told = nil, nil, nil, nil, false
	e.mu.Unlock()
	e.hydrating = false
	if machine != nil {
		err = machine.Close()
	}
	for _, v := range volumes {
		err = errors.Join(err, v.Close())
	}
	if view != nil {
		err = errors.Join(err, view.Close())
	}
	if v != nil {
		err = errors.Join(err, v.Close())
	}
	e.locks.Close()
	e.locks = nil
	return err
}

// Close implements engines.Engine. The virtual machine goes on.
func (e *engine) Close(context.Context) error {
	e.stop()
	e.check.end()
	e.work.Wait()
	return e.close()
}
