package live

import (
	"context"
	"path/filepath"
	"time"

	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/hypervisor"
)

// vmRetry is the time between attempts to bring a virtual machine up or down, and between looks at one that is up.
const vmRetry = 5 * time.Second

// vmWish is what is wanted of the virtual machine.
type vmWish struct {
	n     int // counts wishes; 0: there is none
	up    bool
	def   hypervisor.Machine // to bring up
	grace time.Duration      // to bring down
	cut   bool               // to take the power away at once
}

// setVM wants the virtual machine up or down. It is not started before its disks may be written. A guest whose disks refuse to be
// written cannot shut down in order: it would only answer beside the one that runs elsewhere.
func (m *Machine) setVM(s Spec) error {
	switch {
	case s.VM == nil:
		return nil
	case s.Access == disk.ReadOnly:
		m.wishVM(vmWish{cut: true})
		return nil
	case !s.Run:
		m.wishVM(vmWish{grace: s.StopTimeout})
		return nil
	case m.capture.Access() != disk.Writable:
		return nil
	}
	def, err := engines.DefineVM(filepath.Base(s.Machine), s.VM, m.disks.Socket(), s.Disks, false)
	if err == nil {
		m.wishVM(vmWish{up: true, def: def})
	}
	return err
}

func (m *Machine) wishVM(w vmWish) {
	m.mu.Lock()
	w.n = m.wish.n + 1
	m.wish = w
	if w.cut && m.vmCancel != nil {
		m.vmCancel() // what is under way is not waited for
	}
	m.mu.Unlock()
}

// keepVM carries out the newest wish, again until it succeeds. A guest that shuts itself down stays down until the next one.
func (m *Machine) keepVM() {
	done := 0
	tick := time.NewTicker(m.vmRetry)
	defer tick.Stop()
	for {
		done = m.tryVM(done)
		select {
		case <-m.ctx.Done():
			return
		case <-m.poke[2]:
		case <-tick.C:
		}
	}
}

// tryVM carries out the newest wish if it is not the done one, and tells which is done then.
func (m *Machine) tryVM(done int) int {
	m.vmBusy.Lock()
	defer m.vmBusy.Unlock()
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	m.mu.Lock()
	w := m.wish
	m.vmCancel = cancel
	m.mu.Unlock()
	if m.ctx.Err() != nil {
		return done
	}
	if w.n == done { // what became of it since
		m.setVMGone(w.up && !m.vm.Running(m.ctx))
		return done
	}
	m.setVMGone(false)
	var err error // also a condition
	switch {
	case w.up:
		err = m.vm.Up(ctx, w.def)
	case w.cut:
		err = m.vm.Cut(ctx)
	default:
		err = m.vm.Down(ctx, w.grace)
	}
	if err != nil {
		return done
	}
	return w.n
}

func (m *Machine) setVMGone(yes bool) {
	m.mu.Lock()
	m.vmGone = yes && m.ctx.Err() == nil
	m.mu.Unlock()
}

// StopVM shuts the virtual machine down, and waits for it. It stays down until Set wants it up.
func (m *Machine) StopVM(ctx context.Context, grace time.Duration) error {
	if m.vm == nil {
		return nil
	}
	m.wishVM(vmWish{grace: grace})
	m.vmBusy.Lock()
	defer m.vmBusy.Unlock()
	return m.vm.Down(ctx, grace)
}

// CutVM takes the virtual machine's power away. It stays down until Set wants it up.
func (m *Machine) CutVM(ctx context.Context) error {
	if m.vm == nil {
		return nil
	}
	m.wishVM(vmWish{cut: true})
	m.vmBusy.Lock()
	defer m.vmBusy.Unlock()
	return m.vm.Cut(ctx)
}
