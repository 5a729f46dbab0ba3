package disk

import (
	"context"
	"sync"
	"time"
)

// patience is how long a change that is under way may take once it is to be the last: a lower disk that waits for space could wait for ever,
// and nobody could take the machine away from its guest.
const patience = 10 * time.Second

// underWay is the context of a change that is being carried out: it ends with the request's own, which is when its connection is cut, and when
// the machine gives up what is under way. A file is written in any case; a disk that waits for something asks for Done, and only then is there
// anything to be paid for.
type underWay struct {
	context.Context // the request's
	machine         context.Context

	once   sync.Once
	merged context.Context
	stop   func()
}

// Done implements context.Context.
func (u *underWay) Done() <-chan struct{} {
	u.once.Do(func() {
		ctx, cancel := context.WithCancelCause(u.Context)
		stop := context.AfterFunc(u.machine, func() { cancel(u.machine.Err()) })
		u.merged, u.stop = ctx, func() { stop(); cancel(nil) }
	})
	if u.merged == nil { // it is over
		return u.Context.Done()
	}
	return u.merged.Done()
}

// Err implements context.Context.
func (u *underWay) Err() error {
	if err := u.Context.Err(); err != nil {
		return err
	}
	return u.machine.Err()
}

// over lets go of what Done made.
func (u *underWay) over() {
	u.once.Do(func() {})
	if u.stop != nil {
		u.stop()
	}
}

// drained waits until nothing is inside. What takes longer than patience is given up: its guest sees an error, or nothing if it is gone.
func (m *Machine) drained() {
	m.mu.Lock()
	giveUp := m.giveUp
	m.mu.Unlock()
	late := time.AfterFunc(m.cfg.patience, giveUp)
	m.gate.waitIdle(&m.mu)
	late.Stop()
}

// contextOf gives a change the context that its lower disk is handed. mu is held.
func (m *Machine) contextOf(request context.Context) *underWay {
	if m.underWay.Err() != nil { // that was for those before
		m.hopeful()
	}
	return &underWay{Context: request, machine: m.underWay}
}

func (m *Machine) hopeful() {
	m.underWay, m.giveUp = context.WithCancel(context.Background())
}
