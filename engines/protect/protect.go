// Package protect is the engine of a protected machine at its source: its disks are
// files or devices of its own. One process a machine.
package protect

import (
	"context"
	"errors"
	"fmt"
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

	mu      sync.Mutex
	mode    string
	files   []*nbd.File
	machine *live.Machine
	failed  error // why the config could not be taken up
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
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed = e.take(ctx, c)
	return e.failed
}

// take makes everything as c wants it. Disks that were opened for reading only are opened anew before they are written.
func (e *engine) take(ctx context.Context, c engines.Config) error {
	p := c.Section.Protect
	if p == nil {
		return errors.New("the section has no protect payload")
	}
	if p.Mode == "off" || e.mode == "readonly" && p.Mode == "writable" {
		if err := e.close(ctx, p.Mode == "off", p.StopTimeout.D()); err != nil || p.Mode == "off" {
			return err
		}
	}
	s := spec(c)
	if e.machine == nil {
		if err := e.open(ctx, p, s); err != nil {
			return errors.Join(err, e.close(ctx, false, 0))
		}
	}
	e.mode = p.Mode
	if p.Restart != "" && e.marks.Get("restart") != p.Restart {
		if err := errors.Join(e.machine.Capture().AddDirty(nil), e.marks.Set("restart", p.Restart)); err != nil {
			return fmt.Errorf("resynchronisation: %w", err)
		}
	}
	return e.machine.Set(ctx, s)
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
	for _, d := range p.Disks {
		f, err := nbd.OpenFile(d.Path, nbd.FileOptions{ReadOnly: p.Mode == "readonly"})
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.Name, err)
		}
		e.files, lowers = append(e.files, f), append(lowers, f)
	}
	e.machine, err = live.Open(ctx, e.home, e.marks, lowers, s)
	return err
}

// close lets go of the disks; with stop the virtual machine goes down first, so that it sees no error.
func (e *engine) close(ctx context.Context, stop bool, grace time.Duration) (err error) {
	if e.machine != nil {
		if stop {
			err = e.machine.StopVM(ctx, grace)
		}
		err = errors.Join(err, e.machine.Close())
	}
	for _, f := range e.files {
		err = errors.Join(err, f.Close())
	}
	e.machine, e.files = nil, nil
	return err
}

// State implements engines.Engine.
func (e *engine) State() api.EngineState {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := api.EngineState{Phase: "off"}
	if e.machine != nil {
		e.machine.Describe(&s)
	}
	if e.failed != nil {
		s.Conditions = append(s.Conditions, engines.NotTakenUp(e.failed))
	}
	if s.Phase != e.phase {
		e.phase, e.since = s.Phase, time.Now().UTC()
	}
	s.Since = e.since
	return s
}

// Close implements engines.Engine. The virtual machine goes on.
func (e *engine) Close(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.close(ctx, false, 0)
}
