// Package protect is the engine of a protected machine at its source: its disks are
// files or devices of its own. One process a machine.
package protect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/live"
	"github.com/understudy-ha/understudy/nbd"
)

type engine struct {
	home  engines.Home
	marks *engines.Marks

	// Set's alone.
	mode  string
	files []*nbd.File
	locks engines.DiskLocks

	mu      sync.Mutex // held for moments
	machine *live.Machine
	off     string    // the phase of one whose disks are let go of
	failed  error     // why the config could not be taken up
	failing time.Time // since when
	since   time.Time
	phase   string
}

// New makes the engine of a home.
func New(_ context.Context, h engines.Home) (engines.Engine, error) {
	marks, err := h.OpenMarks()
	if err != nil {
		return nil, err
	}
	return &engine{home: h, marks: marks, since: time.Now().UTC()}, nil
}

// Set implements engines.Engine.
func (e *engine) Set(ctx context.Context, c engines.Config) error {
	err := e.take(ctx, c)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err == nil:
		e.failing = time.Time{}
	case e.failing.IsZero():
		e.failing = time.Now()
	}
	e.failed = err
	return err
}

// take makes everything as c wants it. Disks that were opened for reading only are opened anew before they are written.
func (e *engine) take(ctx context.Context, c engines.Config) error {
	p := c.Section.Protect
	if p == nil {
		return errors.New("the section has no protect payload")
	}
	switch p.Mode {
	case "off":
		return e.rest(ctx, p, "off")
	case "discard":
		if err := e.rest(ctx, p, ""); err != nil {
			return err
		}
		if err := e.forget(); err != nil {
			return err
		}
		e.setOff("discarded")
		return nil
	}
	s := spec(c)
	if err := e.belongs(c.Confirmed, s); err != nil {
		return err
	}
	if e.machine != nil && (e.mode == "readonly" && p.Mode == "writable" || !e.machine.Fits(s)) {
		if err := e.machine.MayReopen(c.Confirmed, s.Access); err != nil {
			return err
		}
		if err := e.close(); err != nil {
			return err
		}
	}
	e.setOff("")
	if e.machine == nil {
		if err := e.open(ctx, p, s); err != nil {
			return errors.Join(err, e.close())
		}
	}
	e.mode = p.Mode
	if p.Restart != "" && e.marks.Get("restart") != p.Restart {
		err := e.machine.Capture().AddDirty(nil)
		if err == nil { // only then: else everything that differs would be forgotten
			err = e.marks.Set("restart", p.Restart)
		}
		if err != nil {
			return fmt.Errorf("resynchronisation: %w", err)
		}
	}
	return e.machine.Set(ctx, s)
}

// rest lets go of the disks. The virtual machine goes down first, so that it sees no error; it may run although this process did not start it.
func (e *engine) rest(ctx context.Context, p *api.ProtectConfig, phase string) (err error) {
	switch {
	case e.machine != nil:
		err = e.machine.StopVM(ctx, p.StopTimeout.D())
	case p.VM != nil:
		err = engines.StopVM(ctx, e.home, filepath.Base(p.Machine), p.StopTimeout.D())
	}
	if err != nil {
		return err
	}
	if err = e.close(); err == nil {
		e.setOff(phase)
	}
	return err
}

func (e *engine) setOff(phase string) {
	e.mu.Lock()
	e.off = phase
	e.mu.Unlock()
}

// markMachine is the UID of the machine that all in the home is about.
const markMachine = "machine"

// belongs makes room for a machine where another of its name was protected before: nothing of that one is this one's, but the disks.
func (e *engine) belongs(confirmed bool, s live.Spec) error {
	was := e.marks.Get(markMachine)
	if was == s.UID {
		return nil
	}
	if e.machine != nil {
		if err := e.machine.MayReopen(confirmed, s.Access); err != nil {
			return err
		}
	}
	if was != "" {
		if err := errors.Join(e.close(), e.forget()); err != nil {
			return err
		}
	}
	return e.marks.Set(markMachine, s.UID)
}

// forget removes what is known of a machine whose disks are let go of. The disks stay.
func (e *engine) forget() error {
	if err := errors.Join(os.RemoveAll(e.home.Data()), os.MkdirAll(e.home.Data(), 0o700)); err != nil {
		return err
	}
	return e.marks.Clear()
}

// spec is how the machine is to live.
func spec(c engines.Config) live.Spec {
	p := c.Section.Protect
	s := live.Spec{Machine: p.Machine, UID: p.UID, Stream: p.Stream, Epoch: uint64(max(c.Section.Generation, 0)), Disks: p.Disks, ZeroBase: true,
		Listen: p.Listen, QueueBytes: p.QueueBytes, VM: p.VM, Run: p.Run, StopTimeout: p.StopTimeout.D(), ProcessServers: p.ProcessServers,
		CrashEvery: p.CrashEvery.D(), AppEvery: p.AppEvery.D(), PreScript: p.PreScript, PostScript: p.PostScript,
		PointNow: p.PointNow, PointApp: p.PointApp, Yield: p.Yield, Config: c}
	switch {
	case p.Mode == "readonly":
		s.Access = disk.ReadOnly
	case c.Confirmed:
		s.Access = disk.Writable
	}
	return s
}

func (e *engine) open(ctx context.Context, p *api.ProtectConfig, s live.Spec) (err error) {
	var lowers []nbd.Backend
	if e.locks, err = engines.LockDisks(p.Disks); err != nil {
		return err
	}
	for _, d := range p.Disks {
		f, err := nbd.OpenFile(d.Path, nbd.FileOptions{ReadOnly: p.Mode == "readonly"})
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
		e.files, lowers = append(e.files, f), append(lowers, f)
	}
	m, err := live.Open(ctx, e.home, e.marks, lowers, s)
	if err == nil {
		e.mu.Lock()
		e.machine = m
		e.mu.Unlock()
	}
	return err
}

// close lets go of the disks.
func (e *engine) close() (err error) {
	e.mu.Lock()
	m := e.machine
	e.machine = nil
	e.mu.Unlock()
	if m != nil {
		err = m.Close()
	}
	for _, f := range e.files {
		err = errors.Join(err, f.Close())
	}
	e.files = nil
	e.locks.Close()
	e.locks = nil
	return err
}

// State implements engines.Engine.
func (e *engine) State() api.EngineState {
	e.mu.Lock()
	m, off, failed, failing := e.machine, e.off, e.failed, e.failing
	e.mu.Unlock()
	s := api.EngineState{Phase: "opening"}
	switch {
	case m != nil:
		m.Describe(&s)
	case off != "":
		s.Phase = off
	case failed != nil && time.Since(failing) > engines.FailedAfter:
		s.Phase = "failed"
	}
	if failed != nil {
		s.Conditions = append(s.Conditions, engines.NotTakenUp(failed))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.Phase != e.phase {
		e.phase, e.since = s.Phase, time.Now().UTC()
	}
	s.Since = e.since
	return s
}

// Close implements engines.Engine. The virtual machine goes on.
func (e *engine) Close(context.Context) error { return e.close() }
