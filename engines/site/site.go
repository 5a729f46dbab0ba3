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
	"os"
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

	mu      sync.Mutex
	cfg     engines.Config
	vault   *engines.OpenedVault
	view    *vault.View
	volumes []*volume.Volume
	machine *live.Machine
	check   checker
	failed  error // why the config could not be taken up
	shipNo  error // why shipping has not begun
	told    bool  // this process knows what the far side has
	ended   string
	since   time.Time
	phase   string
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
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cfg = c
	e.failed = e.take(ctx, c)
	select {
	case e.poke <- struct{}{}:
	default:
	}
	return e.failed
}

func (e *engine) take(ctx context.Context, c engines.Config) error {
	p := c.Section.Site
	if p == nil {
		return errors.New("the section has no site payload")
	}
	if p.Mode == "off" || p.Mode == "discard" {
		return e.end(ctx, p)
	}
	e.ended = ""
	if e.machine == nil {
		if err := e.open(ctx, c); err != nil {
			return errors.Join(err, e.close())
		}
	}
	for _, v := range e.volumes {
		v.SetQuota(p.QuotaBytes)
	}
	if err := e.machine.Set(ctx, e.spec(c)); err != nil {
		return err
	}
	if p.Mode == "writable" && (p.Run || p.VM == nil) {
		e.check.begin(e.ctx, &e.work, p.Check, e.screenshot)
	} else {
		e.check.end()
	}
	return nil
}

// end stops the machine, and with discard takes its files away.
func (e *engine) end(ctx context.Context, p *api.SiteConfig) (err error) {
	if e.machine != nil {
		err = e.machine.StopVM(ctx, p.StopTimeout.D())
	} else if p.VM != nil { // it may run although this process did not start it
		vm, openErr := engines.OpenVM(e.home, filepath.Base(p.Machine))
		if err = openErr; err == nil {
			err = vm.Down(ctx, p.StopTimeout.D())
		}
	}
	if err = errors.Join(err, e.close()); err != nil {
		return err
	}
	e.ended = "stopped"
	if p.Mode == "discard" {
		if err := e.marks.Set(hydrated, ""); err != nil { // before the files go: what comes next starts from its own point
			return err
		}
		for _, d := range p.Disks {
			if p.InPlace {
				continue // it is the old primary's disk
			}
			if path := e.path(d); filepath.Dir(path) != e.home.Data() {
				err = errors.Join(err, removeDisk(path))
			}
		}
		if err = errors.Join(err, os.RemoveAll(e.home.Data()), os.MkdirAll(e.home.Data(), 0o700)); err != nil {
			return err
		}
		e.ended = "discarded"
	}
	return nil
}

func removeDisk(path string) error {
	for _, p := range []string{path, path + ".map"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// path is where a disk's file lies.
func (e *engine) path(d api.MachineDisk) string {
	return cmp.Or(d.Path, filepath.Join(e.home.Data(), "disk-"+d.Name+".raw"))
}

// hydrated is the mark that says that the files are the whole disks.
const hydrated = "hydrated"

// open opens the point and the volumes over it, and takes up the machine.
func (e *engine) open(ctx context.Context, c engines.Config) (err error) {
	p := c.Section.Site
	if e.marks.Get(hydrated) == "" {
		if e.vault, err = c.OpenVault(ctx, p.Vault, e.home.Data()); err != nil {
			return err
		}
		if !p.Drill {
			if err := fence(ctx, e.vault, p.Stream, uint64(max(c.Section.Generation, 0))); err != nil {
				return fmt.Errorf("fence stream %s: %w", p.Stream, err)
			}
		}
		if e.view, err = e.vault.View(ctx, p.Stream, p.Seq); err != nil {
			return err
		}
		if e.view.Disks() != len(p.Disks) {
			return fmt.Errorf("stream %s has %d disks, the machine %d", p.Stream, e.view.Disks(), len(p.Disks))
		}
	}
	var lowers []nbd.Backend
	for i, d := range p.Disks {
		v, err := e.openVolume(ctx, p, i, d)
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
		e.volumes, lowers = append(e.volumes, v), append(lowers, v)
	}
	if e.machine, err = live.Open(ctx, e.home, e.marks, lowers, e.spec(c)); err != nil {
		return err
	}
	if p.Hydrate && e.view != nil {
		e.work.Go(func() { e.hydrate(p.HydrateKbps) })
	}
	return nil
}

func (e *engine) openVolume(ctx context.Context, p *api.SiteConfig, i int, d api.MachineDisk) (*volume.Volume, error) {
	cfg := volume.Config{Path: e.path(d), QuotaBytes: p.QuotaBytes, InPlace: p.InPlace}
	if e.view == nil {
		return volume.Open(cfg)
	}
	vd := e.view.Disk(i)
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
	s := live.Spec{Machine: p.Machine, UID: p.UID, Stream: cmp.Or(p.Capture, p.Instance), Epoch: uint64(max(c.Section.Generation, 0)), Disks: p.Disks,
		Initial: []capture.Range{}, Listen: p.Listen, Blocking: e.view != nil, VM: p.VM, Run: p.Run, StopTimeout: p.StopTimeout.D(), Yield: p.Yield, Config: c}
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

// hydrate makes the files whole disks, and then lets go of the vault.
func (e *engine) hydrate(kbps int64) {
	e.mu.Lock()
	volumes := e.volumes
	e.mu.Unlock()
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
	if e.ctx.Err() == nil {
		_ = e.marks.Set(hydrated, "yes") // not noted: the next process finds out again
	}
}

// close lets go of everything but the virtual machine.
func (e *engine) close() (err error) {
	if e.machine != nil {
		err = e.machine.Close()
	}
	for _, v := range e.volumes {
		err = errors.Join(err, v.Close())
	}
	if e.view != nil {
		err = errors.Join(err, e.view.Close())
	}
	if e.vault != nil {
		err = errors.Join(err, e.vault.Close())
	}
	e.machine, e.volumes, e.view, e.vault = nil, nil, nil, nil
	return err
}

// Close implements engines.Engine. The virtual machine goes on.
func (e *engine) Close(context.Context) error {
	e.stop()
	e.check.end()
	e.work.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.close()
}
