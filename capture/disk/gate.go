package disk

import (
	"context"
	"sync"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/nbd"
)

// Access says what becomes of changes to the disks. Reads are always answered.
type Access int

const (
	// Unconfirmed: changes wait until it is decided whether this machine may be written here.
	Unconfirmed Access = iota
	// Writable: changes are carried out and captured.
	Writable
	// ReadOnly: changes are refused with nbd.ErrReadOnly.
	ReadOnly
)

func (a Access) String() string { return [...]string{"unconfirmed", "writable", "read-only"}[a] }

// gate lets changes in by access and knows how many are inside. It is under the machine's order lock.
type gate struct {
	access  Access
	inside  int
	changed chan struct{} // made by who waits; closed by announce
}

// wait releases mu until something is announced.
func (g *gate) wait(ctx context.Context, mu *sync.Mutex) error {
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	changed := g.changed
	mu.Unlock()
	defer mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) announce() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

func (g *gate) leave() {
	g.inside--
	if g.inside == 0 {
		g.announce()
	}
}

// waitIdle waits until nothing is inside.
func (g *gate) waitIdle(mu *sync.Mutex) {
	mu.Lock()
	defer mu.Unlock()
	for g.inside > 0 {
		g.wait(context.Background(), mu)
	}
}

// admit waits until a change may go in. mu is held.
func (m *Machine) admit(ctx context.Context) error {
	for {
		switch {
		case m.closed:
			return capture.ErrClosed
		case m.gate.access == ReadOnly:
			return nbd.ErrReadOnly
		case m.gate.access == Writable:
			return nil
		}
		if err := m.gate.wait(ctx, &m.mu); err != nil {
			return err
		}
	}
}

// SetAccess changes what becomes of changes. Making it less than writable returns when those under way are finished; for ReadOnly, those that
// the lower disk has not carried out after 10 s are given up.
func (m *Machine) SetAccess(a Access) {
	m.mu.Lock()
	m.gate.access = a
	m.gate.announce()
	m.mu.Unlock()
	switch a {
	case ReadOnly:
		m.drained()
	case Unconfirmed:
		m.gate.waitIdle(&m.mu)
	}
}

// SetWritable is SetAccess of Writable or ReadOnly.
func (m *Machine) SetWritable(yes bool) {
	if yes {
		m.SetAccess(Writable)
	} else {
		m.SetAccess(ReadOnly)
	}
}

// Access tells what becomes of changes.
func (m *Machine) Access() Access {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gate.access
}
