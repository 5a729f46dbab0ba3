package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/capture"
)

// TestAGapClosesUnderLoad: writers that never pause do not keep a gap open, nor make bitmaps without end.
func TestAGapClosesUnderLoad(t *testing.T) {
	m, w, far := opened(t, func(c *Config) { c.RotateEvery = time.Hour; c.QueueRecords = 4096 })
	slow := func() { time.Sleep(50 * time.Microsecond) }
	w.pause.Store(&slow)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			p := make([]byte, 512)
			for n := int64(0); ctx.Err() == nil; n++ {
				p[0] = byte(n)
				_ = m.disks[0].WriteAt(context.Background(), p, (n%500+int64(i)*500)*512, false)
			}
		})
	}
	defer load.Wait()
	defer cancel()
	go far.drainSimply(ctx, m)
	m.SetShipping(false)
	time.Sleep(20 * time.Millisecond)
	m.mu.Lock()
	before := m.lastGeneration
	m.mu.Unlock()
	m.SetShipping(true)
	began := time.Now()
	for m.Position().InGap && time.Since(began) < 5*time.Second {
		time.Sleep(time.Millisecond)
	}
	m.mu.Lock()
	after, gens := m.lastGeneration, len(m.gens)
	m.mu.Unlock()
	t.Logf("gap %v after %s; %d bitmaps made, %d held", m.Position().InGap, time.Since(began), after-before, gens)
	if m.Position().InGap {
		t.Errorf("the gap does not close under load")
	}
}

// TestGapsThatDoNotCloseLeaveFewBitmaps: each overflow while a gap closes makes a bitmap; they do not pile up, also where the process
// is killed again and again, and nothing that they mark is forgotten.
func TestGapsThatDoNotCloseLeaveFewBitmaps(t *testing.T) {
	lives := 6
	if testing.Short() {
		lives = 2
	}
	for _, power := range []bool{false, true} {
		w := newWorld(1<<20, 1<<20)
		far := newRemote([]int64{1 << 20, 1 << 20})
		r := rand.New(rand.NewPCG(7, 7))
		for life := range lives {
			m := mustOpen(t, testConfig(w, fmt.Sprint("boot", life)))
			far.covered(t, w, m)
			far.reconnect(m)
			for range 30 { // a gap begins to close, and the queue overflows before it has
				for !m.inPhase(dropping) {
					change(t.Context(), m, w, r)
				}
				eventually(t, "closing", func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					defer cancel()
					if recs, err := m.Next(ctx); err == nil {
						far.spool(recs)
						spooled, _ := far.positions()
						m.Release(spooled)
						far.store(spooled - min(spooled, r.Uint64N(50)))
						_, stored := far.positions()
						m.Stored(stored)
					}
					return !m.inPhase(dropping)
				})
				for m.inPhase(closing) {
					change(t.Context(), m, w, r)
				}
				if !m.Counters().Hold() {
					t.Fatalf("counters: %+v", m.Counters())
				}
				far.covered(t, w, m)
			}
			m.mu.Lock()
			gens := len(m.gens)
			m.mu.Unlock()
			if gens > maxGenerations+1 {
				t.Fatalf("%d bitmaps", gens)
			}
			w = w.crash(r, power, func() { far = far.clone() })
			m.abandon()
		}
		m := mustOpen(t, testConfig(w, "last"))
		far.covered(t, w, m)
		far.finish(t, m)
		far.check(t, w)
		if c := m.Counters(); !c.Hold() || c.Dirty != 0 {
			t.Errorf("counters at the end: %+v", c)
		}
		m.Close()
	}
}

// waitingDisk is a lower disk that is full: changes wait until their context ends.
type waitingDisk struct{ *memDisk }

func (d waitingDisk) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	<-ctx.Done()
	return errors.Join(ctx.Err(), d.memDisk.WriteAt(ctx, p[:512], off, fua))
}

// TestAFullDiskDoesNotHoldTheMachine: a change that waits for space under the capture is given up when the machine is taken from its guest,
// when its connection is cut, and when the capture is closed; what it may have written is dirty.
func TestAFullDiskDoesNotHoldTheMachine(t *testing.T) {
	for name, end := range map[string]func(m *Machine, cut func()){
		"read-only": func(m *Machine, _ func()) { m.SetWritable(false) },
		"close":     func(m *Machine, _ func()) { m.Close() },
		"cut":       func(_ *Machine, cut func()) { cut() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1 << 20)
			c := testConfig(w, "boot")
			c.Initial, c.patience = []capture.Range{}, 20*time.Millisecond
			c.Disks[0].Lower = waitingDisk{w.disks[0]}
			m := mustOpen(t, c)
			defer m.Close()
			far := newRemote([]int64{1 << 20})
			far.finish(t, m)
			ctx, cut := context.WithCancel(context.Background())
			defer cut()
			answer := make(chan error, 1)
			go func() { answer <- m.disks[0].WriteAt(ctx, bytes.Repeat([]byte{7}, 1024), 4096, false) }()
			eventually(t, "the write is under way", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.gate.inside == 1 })
			ended := make(chan struct{})
			go func() { defer close(ended); end(m, cut) }()
			select {
			case err := <-answer:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("the write: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the write is not given up")
			}
			<-ended
			if name == "close" {
				c.Disks[0].Lower = w.disks[0]
				m = mustOpen(t, c)
				defer m.Close()
			}
			if !inside(m.DirtyRanges(), 0, 4096) {
				t.Error("what the write may have changed is clean")
			}
			far.finish(t, m)
			far.check(t, w)
			if name == "read-only" {
				m.SetWritable(true)
				m.mu.Lock()
				gaveUp := m.contextOf(t.Context()).Err()
				m.mu.Unlock()
				if gaveUp != nil {
					t.Error("changes to come are given up too")
				}
			}
		})
	}
}

// TestNobodyWaitsForAGapToClose: the far side is away while a gap closes; that the rest of the disk is to be read again can be said all the same.
func TestNobodyWaitsForAGapToClose(t *testing.T) {
	m, w, far := opened(t, func(c *Config) { c.QueueRecords = 64 })
	for i := range int64(2048) {
		write(t, m, i*512, byte(i))
	}
	far.reconnect(m)
	eventually(t, "closing", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if recs, err := m.Next(ctx); err == nil && !m.inPhase(closing) {
			far.spool(recs)
			m.Release(recs[len(recs)-1].Seq)
		}
		return m.inPhase(closing)
	})
	time.Sleep(20 * time.Millisecond) // the queue is half full by now, and stays so
	done := make(chan error, 1)
	go func() {
		m.SetSame(func(uint16, int64, []byte) bool { return false })
		done <- m.AddDirty(nil)
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("AddDirty waits for the far side")
	}
	far.finish(t, m)
	far.check(t, w)
}

// TestAnotherPastOutlivesAPowerCut: when the far side turns out to have lost what it had, everything is dirty, and a power cut right after
// takes nothing of that away.
func TestAnotherPastOutlivesAPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		m, w, far := opened(t, nil)
		for i := range int64(256) {
			write(t, m, i*4096, byte(i)+1)
		}
		far.finish(t, m)
		eventually(t, "a bitmap that marks nothing", func() bool {
			kick(m.janitor)
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.gens) == 1 && m.current().count() == 0
		})
		empty := newRemote([]int64{1 << 20})
		if m.Rewind(1) {
			t.Fatal("the far side has nothing, and there is no gap")
		}
		after := w.crash(rand.New(rand.NewPCG(seed, 0)), true, func() {})
		again := mustOpen(t, testConfig(after, "another boot"))
		empty.covered(t, after, again)
		again.Close()
		m.Close()
	}
}

// TestInterruptedMaking: a process that is killed, or a host that loses power, while the directory is made leaves nothing that the next
// process stumbles over.
func TestInterruptedMaking(t *testing.T) {
	for _, power := range []bool{false, true} {
		for at := int64(1); ; at++ {
			w := newWorld(1 << 20)
			w.disks[0].cur[5000], w.disks[0].durable[5000] = 1, 1
			var n atomic.Int64
			stop, stopped := make(chan struct{}), make(chan struct{})
			f := func() {
				if n.Add(1) == at {
					close(stopped)
					<-stop
				}
			}
			w.pause.Store(&f)
			opened := make(chan *Machine, 1)
			c := testConfig(w, "boot")
			go func() { opened <- mustOpen(t, c) }()
			var m *Machine
			select {
			case <-stopped:
			case m = <-opened:
			}
			if m != nil {
				w.pause.Store(nil)
				close(stop) // what runs in the background may have got there meanwhile
				m.Close()
				break
			}
			left := w.crash(rand.New(rand.NewPCG(uint64(at), 0)), power, func() {})
			w.pause.Store(nil)
			close(stop)
			(<-opened).Close()
			again, err := Open(testConfig(left, "boot2"))
			if err != nil {
				t.Fatalf("after operation %d (power cut: %t): %v", at, power, err)
			}
			far := newRemote([]int64{1 << 20})
			far.covered(t, left, again)
			far.finish(t, again)
			far.check(t, left)
			again.Close()
		}
	}
}

// manyLossy is a machine in a gap with as many bitmaps as make two of them one. Each marks a block in an extent of its own, which is cold by now.
func manyLossy(t *testing.T) (*Machine, *world) {
	t.Helper()
	m, w, _ := opened(t, func(c *Config) { c.RotateEvery = time.Hour })
	m.SetShipping(false)
	for i := range int64(maxGenerations - 1) {
		write(t, m, i*16<<10, byte(i)+1)
		m.rotating.Lock()
		fresh, err := m.freshBitmap(false, false)
		if err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		m.rotate(fresh)
		m.mu.Unlock()
		m.rotating.Unlock()
	}
	for i := int64(16); i < 64; i++ {
		write(t, m, i*16<<10, byte(i)+1)
	}
	return m, w
}

func TestAPowerCutAfterTwoBitmapsBecameOne(t *testing.T) {
	for seed := range uint64(20) {
		m, w := manyLossy(t)
		hot, _ := m.activity.list()
		for _, e := range hot {
			if e.off(m.activity.size) < 16*16<<10 {
				t.Fatal("what the old bitmaps mark is hot still: nothing is shown")
			}
		}
		m.reading.Lock()
		fewer := m.fold()
		m.reading.Unlock()
		if !fewer {
			t.Fatalf("%d bitmaps stay", len(m.gens))
		}
		after := w.crash(rand.New(rand.NewPCG(seed, 0)), true, func() {})
		again := mustOpen(t, testConfig(after, "another boot"))
		newRemote([]int64{1 << 20}).covered(t, after, again)
		again.Close()
		m.Close()
	}
}

// TestABlockWrittenSinceItWasRead: a block was read again, and changed after. That the reading is stored does not make it clean, also not where
// one bitmap marks both.
func TestABlockWrittenSinceItWasRead(t *testing.T) {
	m, _ := manyLossy(t)
	m.mu.Lock()
	older, newer := m.gens[0], m.gens[1]
	older.lossy, newer.lossy = true, true
	older.disks[0].set(200, 2)
	older.markDone(0, 200, 2)
	newer.disks[0].set(200, 1)
	m.clearWhenStored(clearing{seq: m.stored + 1, first: 200, n: 2, begin: older.closed + 1})
	m.mu.Unlock()
	m.reading.Lock()
	fewer := m.fold()
	m.reading.Unlock()
	if !fewer {
		t.Fatal("they stay two")
	}
	m.Stored(m.stored + 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := older.dirtyWord(0, 200/64); w>>(200%64)&3 != 1 {
		t.Errorf("of two blocks that were read, of which the first was written since, are to be read again: %b", w>>(200%64)&3)
	}
	if !older.disks[0].has(200) {
		t.Error("a block is clean that was written after it was read")
	}
}

// TestPowerIsLostJustAfterTheLogFailed: a disk fails to flush where the activity log makes room, so the log is not written. What is changed from
// then on is in no log, and the power fails before the janitor has looked.
func TestPowerIsLostJustAfterTheLogFailed(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the janitor comes late
	r := rand.New(rand.NewPCG(8, 8))
	for round := range 50 {
		w := newWorld(1 << 20)
		c := testConfig(w, "boot")
		c.Initial = []capture.Range{}
		m := mustOpen(t, c)
		far := newRemote([]int64{1 << 20})
		far.finish(t, m)
		w.disks[0].flaky.Store(1)
		for off := int64(0); off < 1<<20; off += 16 << 10 { // twice what the log has room for
			write(t, m, off, 7)
		}
		w = w.crash(r, true, func() { far = far.clone() })
		m.abandon()
		m = mustOpen(t, testConfig(w, "after"))
		far.covered(t, w, m)
		far.finish(t, m)
		far.check(t, w)
		m.Close()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// lateAnswer is a lower disk whose failed flushes are answered late.
type lateAnswer struct {
	*memDisk
	failed, answer chan struct{}
}

func (d lateAnswer) Flush(ctx context.Context) error {
	err := d.memDisk.Flush(ctx)
	if err != nil {
		close(d.failed)
		<-d.answer
	}
	return err
}

// TestWhatAFlushLostIsDirtyThoughItCooled: before it is known that a flush failed, the extents that it lost are evicted from the activity log,
// by a flush that finds nothing wrong any more; or they are about to be.
func TestWhatAFlushLostIsDirtyThoughItCooled(t *testing.T) {
	w := newWorld(1 << 20)
	lower := lateAnswer{w.disks[0], make(chan struct{}), make(chan struct{})}
	c := testConfig(w, "boot")
	c.Initial, c.Disks[0].Lower = []capture.Range{}, lower
	m := mustOpen(t, c)
	defer m.Close()
	far := newRemote([]int64{1 << 20})
	far.finish(t, m)
	for e := range int64(32) { // as many extents as the log has slots
		write(t, m, e*16<<10, 1)
	}
	far.finish(t, m)
	eventually(t, "bitmaps that mark nothing", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return !slices.ContainsFunc(m.gens, func(g *generation) bool { return g.count() > 0 })
	})
	w.disks[0].flaky.Store(1)
	flushed := make(chan error, 1)
	go func() { flushed <- m.disks[0].Flush(t.Context()) }()
	<-lower.failed
	for e := range int64(32) {
		write(t, m, (32+e)*16<<10, 2)
	}
	close(lower.answer)
	if err := <-flushed; !errors.Is(err, errDisk) {
		t.Fatalf("flush: %v", err)
	}
	far.covered(t, w, m)
	far.finish(t, m)
	far.check(t, w)
}
