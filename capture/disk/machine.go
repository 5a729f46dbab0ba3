// Package disk captures every write to a machine's disks underneath their NBD exports. Each disk is an nbd.Backend over
// a lower one that holds the data; nothing but what the machine writes is ever written to that.
//
// The life of a write (change, in backend.go):
//
//  1. it waits for earlier overlapping ones; its extent is hot in the activity log, synced if it was cold;
//  2. its dirty bit is set in a mapped file;
//  3. it is issued to the lower disk;
//  4. it takes its number: one sequence over all disks, given under one lock, the order lock;
//  5. it is queued, with a copy of its payload;
//  6. the reply goes out.
//
// So a write that was answered before another was issued has the smaller number, and of two overlapping ones the journal's
// order is the disk's. A flush takes its number after the lower disk has flushed, so every write that was answered before
// it was issued precedes it.
//
// What can go wrong with the far side costs a gap, never the source's time (gap.go draws the states).
package disk

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/nbd"
)

// Machine captures a machine's disks. It is a capture.Source. All methods are safe for concurrent use.
type Machine struct {
	cfg      Config
	dir      directory
	unlock   func()
	log      *slog.Logger
	now      func() time.Time
	disks    []*Disk
	granule  int64
	sizes    []int64
	activity *activity

	stateMu      sync.Mutex // writing the state file
	state        *state
	stateWritten time.Time // the janitor's

	reading  sync.Mutex   // a gap closes; before the others
	rotating sync.Mutex   // making bitmaps current; before files and mu
	files    sync.RWMutex // for reading: mappings of generations stay; before mu

	mu             sync.Mutex // the order lock: everything below
	stream         string
	epoch          uint64
	next           uint64 // the position that is given next
	stored         uint64
	captured       uint64 // Counters.Captured
	gens           []*generation
	lastGeneration uint64
	spare          *bitmap // ready to become current
	rotated        time.Time
	queue          queue
	gap            gap
	clears         []clearing
	gate           gate
	underWay       context.Context // of the changes that begin now; giveUp ends it
	giveUp         context.CancelFunc
	conditions     map[string]capture.Condition
	failures       int // how often the activity log, bitmaps or the state could not be written
	mended         int // of these, made good since
	closed         bool

	same      func(disk uint16, off int64, data []byte) bool
	gapKick   chan struct{}
	janitor   chan struct{}
	ctx       context.Context // ends at Close
	cancel    context.CancelFunc
	goroutine sync.WaitGroup
}

var _ capture.Source = (*Machine)(nil)

// Backend gives a disk by its id, nil if there is none.
func (m *Machine) Backend(id string) nbd.Backend {
	for _, d := range m.disks {
		if d.id == id {
			return d
		}
	}
	return nil
}

// start makes the goroutines run.
func (m *Machine) start() {
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.goroutine.Go(m.runJanitor)
	m.goroutine.Go(m.runGaps)
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close refuses new requests, waits for those under way (up to 10 s, as SetAccess does), makes everything durable and lets go of the directory.
// What was not stored is dirty at the next Open. The lower disks stay open.
func (m *Machine) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.gate.announce()
	m.mu.Unlock()
	m.drained()
	m.cancel()
	m.goroutine.Wait()
	err := m.settleForGood()
	m.abandon()
	return err
}

// settleForGood makes everything durable and says so. If it cannot, the next Open takes it for a crash.
func (m *Machine) settleForGood() error {
	m.mu.Lock()
	failing := m.failing()
	m.mu.Unlock()
	if failing {
		return nil
	}
	all := map[uint16]bool{}
	for i := range m.disks {
		all[uint16(i)] = true
	}
	if err := m.settle(all); err != nil {
		return err
	}
	return m.state.write(func(s *identity) { s.Clean, s.Stored = true, m.stored })
}

// abandon closes files as the end of the process does.
func (m *Machine) abandon() {
	m.cancel()
	m.goroutine.Wait()
	for _, g := range m.gens {
		g.file.close()
	}
	if m.spare != nil {
		m.spare.file.close()
	}
	if m.activity != nil {
		m.activity.file.close()
	}
	if m.state != nil {
		m.state.file.close()
	}
	m.unlock()
}

// settle makes durable what was written to these disks, and all bitmaps.
func (m *Machine) settle(disks map[uint16]bool) error {
	for i := range disks {
		if err := m.disks[i].lower.Flush(context.Background()); err != nil {
			return err
		}
	}
	return m.syncBitmaps()
}
