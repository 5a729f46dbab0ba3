package disk

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

// opened is a machine with one disk of 1 MiB whose stream has no gap, and a far side that has everything.
func opened(t *testing.T, change func(*Config)) (*Machine, *world, *remote) {
	t.Helper()
	w := newWorld(1 << 20)
	c := testConfig(w, "boot")
	c.Initial = []capture.Range{}
	if change != nil {
		change(&c)
	}
	m := mustOpen(t, c)
	t.Cleanup(func() { m.Close() })
	far := newRemote([]int64{1 << 20})
	if !c.Paused {
		far.finish(t, m)
	}
	return m, w, far
}

func write(t *testing.T, m *Machine, off int64, fill byte) {
	t.Helper()
	if err := m.disks[0].WriteAt(t.Context(), bytes.Repeat([]byte{fill}, 512), off, false); err != nil {
		t.Fatalf("write at %d: %v", off, err)
	}
}

func pointNow(m *Machine) error {
	_, err := m.Point(context.Background(), journal.PointInfo{ID: "p", Consistency: journal.Crash})
	return err
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}

func condition(m *Machine, code string) bool {
	for _, c := range m.Position().Conditions {
		if c.Code == code {
			return true
		}
	}
	return false
}

// hold makes changes of the lower disk wait, and tells when one does.
func hold(w *world) (waiting chan struct{}, letGo func()) {
	waiting, gate := make(chan struct{}, 9), make(chan struct{})
	f := func() { waiting <- struct{}{}; <-gate }
	w.pause.Store(&f)
	return waiting, func() { w.pause.Store(nil); close(gate) }
}

func TestAWriteUnderWayKeepsItsBit(t *testing.T) {
	m, w, far := opened(t, func(c *Config) { c.RotateEvery = time.Hour })
	write(t, m, 0, 1) // hot, and the bitmap is used
	waiting, letGo := hold(w)
	done := make(chan struct{})
	go func() { defer close(done); write(t, m, 512, 2) }()
	<-waiting
	w.pause.Store(nil)
	m.rotating.Lock()
	fresh, err := m.freshBitmap(false, false)
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.rotate(fresh)
	m.mu.Unlock()
	m.rotating.Unlock()
	write(t, m, 65536, 3)
	far.finish(t, m)
	m.pruneGenerations()
	if !inside(m.DirtyRanges(), 0, 512) {
		t.Error("a write is under way, and its block is clean")
	}
	killed := w.crash(rand.New(rand.NewPCG(1, 1)), false, func() {})
	killed.disks[0].cur[512] = 2 // it got there
	again := mustOpen(t, testConfig(killed, "boot"))
	far.covered(t, killed, again)
	again.Close()
	letGo()
	<-done
	far.finish(t, m)
	far.check(t, w)
}

func TestAccess(t *testing.T) {
	m, w, _ := opened(t, func(c *Config) { c.Access = Unconfirmed })
	d := m.disks[0]
	p := make([]byte, 512)
	if err := d.ReadAt(t.Context(), p, 0); err != nil {
		t.Errorf("read while unconfirmed: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := d.WriteAt(short, p, 0, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write while unconfirmed: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- d.WriteAt(context.Background(), p, 0, false) }()
	time.Sleep(10 * time.Millisecond)
	m.SetWritable(true)
	if err := <-waited; err != nil {
		t.Errorf("a write that waited: %v", err)
	}
	waiting, letGo := hold(w)
	go func() { waited <- d.WriteAt(context.Background(), p, 0, false) }()
	<-waiting
	refused := make(chan struct{})
	go func() { m.SetWritable(false); close(refused) }()
	eventually(t, "read-only", func() bool { return m.Access() == ReadOnly })
	select {
	case <-refused:
		t.Error("SetWritable(false) did not wait for the write under way")
	case <-time.After(20 * time.Millisecond):
	}
	letGo()
	if err := <-waited; err != nil {
		t.Errorf("a write that was under way: %v", err)
	}
	<-refused
	last := m.Position().Captured
	for name, err := range map[string]error{
		"write": d.WriteAt(t.Context(), p, 0, false), "zero": d.Zero(t.Context(), 0, 512, false, false), "trim": d.Trim(t.Context(), 0, 512, false),
	} {
		if !errors.Is(err, nbd.ErrReadOnly) {
			t.Errorf("%s while read-only: %v", name, err)
		}
	}
	if err := d.Flush(t.Context()); err != nil || m.Position().Captured != last {
		t.Errorf("flush while read-only: %v, position %d after %d", err, m.Position().Captured, last)
	}
}

// fill writes until the queue overflows.
func fill(t *testing.T, m *Machine) {
	t.Helper()
	for i := int64(0); !m.Position().InGap; i++ {
		write(t, m, i%2048*512, byte(i))
	}
}

func TestFullDirectory(t *testing.T) {
	m, w, far := opened(t, nil)
	write(t, m, 0, 9)
	w.dir.full.Store(true)
	m.rotating.Lock()
	m.mu.Lock()
	spare := m.spare
	m.spare = nil // it was used up
	m.mu.Unlock()
	m.rotating.Unlock()
	fill(t, m)
	go far.drainSimply(t.Context(), m)
	eventually(t, "the condition", func() bool { return condition(m, capture.MetadataFull) })
	for i := range int64(2048) {
		write(t, m, i*512, 7)
	}
	if err := pointNow(m); !errors.Is(err, capture.ErrInGap) {
		t.Errorf("a point while no bitmap can be made: %v", err)
	}
	w.dir.full.Store(false)
	eventually(t, "a point", func() bool { return pointNow(m) == nil })
	if condition(m, capture.MetadataFull) {
		t.Error("there is space again, and the condition stays")
	}
	spare.file.close()
	eventually(t, "everything stored", func() bool { p := m.Position(); return p.Stored == p.Captured })
	far.check(t, w)
}

// drainSimply takes, spools and stores everything at once.
func (r *remote) drainSimply(ctx context.Context, m *Machine) {
	for ctx.Err() == nil {
		recs, err := m.Next(ctx)
		if err != nil {
			return
		}
		r.spool(recs)
		spooled, _ := r.positions()
		r.store(spooled)
		m.Stored(spooled)
	}
}

func TestBrokenDirectory(t *testing.T) {
	m, w, far := opened(t, nil)
	go far.drainSimply(t.Context(), m)
	w.dir.broken.Store(true)
	for i := range int64(2048) { // more extents than the log has slots
		write(t, m, i*512, byte(i))
	}
	if !condition(m, capture.MetadataFailing) || !errors.Is(pointNow(m), capture.ErrInGap) {
		t.Errorf("the log cannot be written, and points go on: %+v", m.Position())
	}
	if d := m.DirtyRanges(); len(d) != 1 || d[0].Len != 1<<20 {
		t.Errorf("not everything is dirty: %v", d)
	}
	w.dir.broken.Store(false)
	eventually(t, "a point", func() bool { return pointNow(m) == nil })
	eventually(t, "everything stored", func() bool { p := m.Position(); return p.Stored == p.Captured })
	far.check(t, w)
	if condition(m, capture.MetadataFailing) {
		t.Error("the log can be written again, and the condition stays")
	}
}

func TestRewind(t *testing.T) {
	m, w, far := opened(t, nil)
	base := m.Position().Captured
	for i := range int64(20) {
		write(t, m, i*512, byte(i))
	}
	take := func() (first, last uint64) {
		recs, err := m.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return recs[0].Seq, recs[len(recs)-1].Seq
	}
	take()
	m.Release(base + 5)
	if !m.Rewind(base + 6) {
		t.Error("everything is in memory, and it has a gap")
	}
	if first, last := take(); first != base+6 || last != base+20 {
		t.Errorf("records %d to %d come after a rewind to %d", first, last, base+6)
	}
	if m.Rewind(base + 3) {
		t.Error("records were released, and it has no gap")
	}
	if p := m.Position(); !p.InGap || p.GapFrom != base+3 || !p.Counters.Hold() {
		t.Errorf("after a rewind beyond memory: %+v", p)
	}
	far.finish(t, m)
	far.check(t, w)
	w.disks[0].mu.Lock() // it is said until the gap is closed, which needs the disk
	if m.Rewind(base) || !condition(m, capture.HistoryMismatch) {
		t.Error("the far side lost what it had stored, and it is not said")
	}
	w.disks[0].mu.Unlock()
	far.finish(t, m)
	if m.Rewind(1_000_000) {
		t.Error("the far side has positions that were never given, and there is no gap")
	}
	far.spooled = 999_999
	far.finish(t, m)
	far.check(t, w)
	if p := m.Position(); p.Captured < 1_000_000 {
		t.Errorf("position %d is given again", p.Captured)
	}
}

func TestOrderlyRestartHasNoGap(t *testing.T) {
	m, w, far := opened(t, nil)
	for i := range int64(20) {
		write(t, m, i*512, byte(i))
	}
	recs, err := m.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	far.spool(recs) // spooled, not stored
	m.Release(far.spooled)
	before := m.Position()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = mustOpen(t, testConfig(w, "another boot"))
	defer m.Close()
	if p := m.Position(); p.InGap || p.Captured != before.Captured || !p.Counters.Hold() || p.Counters.Dirty != 20 {
		t.Errorf("after an orderly restart: %+v", p)
	}
	if !m.Rewind(far.spooled + 1) {
		t.Error("the far side has everything, and there is a gap")
	}
	write(t, m, 0, 99)
	far.finish(t, m)
	far.check(t, w)
}

func TestNewStream(t *testing.T) {
	m, w, far := opened(t, func(c *Config) { c.Paused = true })
	for i := range int64(2048) {
		write(t, m, i*512, byte(1+i/128))
	}
	if p := m.Position(); p.QueueBytes != 0 || !p.InGap {
		t.Errorf("paused, and records are kept: %+v", p)
	}
	if err := m.StartStream(Start{ID: "u-1", Epoch: 2}); err == nil {
		t.Error("the stream it has was started again")
	}
	if err := m.StartStream(Start{ID: "u-2", Epoch: 0}); !errors.Is(err, ErrStale) {
		t.Errorf("an old epoch: %v", err)
	}
	other := bytes.Clone(w.disks[0].content())
	other[9*65536] ^= 1 // the far side's disk differs there
	copy(far.image[0], other)
	copy(far.kept[0], other)
	m.SetSame(func(_ uint16, off int64, data []byte) bool { return bytes.Equal(other[off:off+int64(len(data))], data) })
	if err := m.StartStream(Start{ID: "u-2", Epoch: 2, Initial: []capture.Range{{Off: 8 * 65536, Len: 4 * 65536}}}); err != nil {
		t.Fatal(err)
	}
	m.SetShipping(true)
	far.finish(t, m)
	p := m.Position()
	if p.Stream != "u-2" || p.Epoch != 2 || p.Captured != 3 || p.Resync.SentBytes != 4096 || p.Resync.SkippedBytes != 4*65536-4096 {
		t.Errorf("the new stream: %+v", p)
	}
	far.check(t, w)
	if err := m.AddDirty([]capture.Range{{Off: 0, Len: 512}}); err != nil {
		t.Fatal(err)
	}
	if !inside(m.DirtyRanges(), 0, 0) {
		t.Error("something was added, and it is not dirty")
	}
	if far.finish(t, m); m.Position().Captured <= p.Captured {
		t.Error("something was added that is dirty, and there was no gap: nothing was sent again")
	}
	killed := w.crash(rand.New(rand.NewPCG(1, 1)), false, func() {})
	c := testConfig(killed, "boot")
	if _, err := Open(c); !errors.Is(err, ErrOtherStream) {
		t.Errorf("opened with the old stream: %v", err)
	}
	c.Stream, c.Epoch = "u-2", 1
	if _, err := Open(c); !errors.Is(err, ErrStale) {
		t.Errorf("opened with an old epoch: %v", err)
	}
	c.Epoch, c.Disks[0].ID = 2, "other"
	if _, err := Open(c); !errors.Is(err, ErrOtherDisks) {
		t.Errorf("opened with other disks: %v", err)
	}
	c.Disks[0].ID = "disk0"
	m = mustOpen(t, c)
	far.finish(t, m)
	far.check(t, killed)
	m.Close()
}

// TestInitialCopyGoesOn kills the initial copy in the middle: what was stored is not sent again.
func TestInitialCopyGoesOn(t *testing.T) {
	w := newWorld(8 << 20)
	for i := range w.disks[0].cur {
		w.disks[0].cur[i] = byte(i/512) | 1
	}
	m := mustOpen(t, testConfig(w, "boot"))
	far := newRemote([]int64{8 << 20})
	was := int64(0)
	for far.spooled < 16 {
		recs, err := m.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			was += rec.Len
		}
		far.spool(recs)
		far.store(far.spooled)
		m.Stored(far.spooled)
	}
	killed := w.crash(rand.New(rand.NewPCG(1, 1)), false, func() {})
	m.abandon()
	m = mustOpen(t, testConfig(killed, "boot"))
	far.covered(t, killed, m)
	far.finish(t, m)
	if sent := m.Position().Resync.SentBytes; was == 0 || sent != 8<<20-was {
		t.Errorf("%d bytes of %d were stored, and %d were sent again", was, 8<<20, sent)
	}
	far.check(t, killed)
	m.Close()
}

// What was not sent stays as old as it is, however often the process is killed: else a cut line would look short.
func TestUnsentIsAsOldAsItIs(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1e18)
	now := func() time.Time { return time.Unix(0, clock.Load()) }
	m, w, far := opened(t, func(c *Config) { c.now = now })
	if p := m.Position(); !p.OldestUnsent.IsZero() {
		t.Errorf("everything is stored, and something is unsent since %v", p.OldestUnsent)
	}
	began := time.Unix(0, clock.Add(int64(time.Minute)))
	write(t, m, 0, 1)
	for range 2 {
		w = w.crash(rand.New(rand.NewPCG(1, 1)), false, func() {})
		clock.Add(int64(time.Minute))
		c := testConfig(w, "boot")
		c.now = now
		m = mustOpen(t, c)
		defer m.Close()
		if p := m.Position(); !p.OldestUnsent.Equal(began) {
			t.Errorf("after kill -9, something is unsent since %v; want %v", p.OldestUnsent, began)
		}
	}
	m.Rewind(far.spooled + 1)
	far.finish(t, m)
	if p := m.Position(); !p.OldestUnsent.IsZero() {
		t.Errorf("everything is stored, and something is unsent since %v", p.OldestUnsent)
	}
}

// A point that a gap comes over is not one any more: whoever asked for it must know.
func TestAGapTakesThePointsInIt(t *testing.T) {
	m, w, far := opened(t, nil)
	point := func() uint64 {
		t.Helper()
		seq, err := m.Point(t.Context(), journal.PointInfo{ID: "p", Consistency: journal.Crash})
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	write(t, m, 0, 1)
	stored := point()
	far.finish(t, m)
	write(t, m, 512, 2)
	spooled := point()
	if m.PointLost(stored) || m.PointLost(spooled) {
		t.Error("a point is lost, and there was no gap")
	}
	if _, err := m.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Release(spooled)
	if m.Rewind(far.spooled + 1) { // the spool is lost
		t.Fatal("what was released cannot be sent again")
	}
	m.SetShipping(false)
	for i := range int64(2 * maxLost) { // none of them takes a point with it
		write(t, m, i*512, 3)
	}
	m.SetShipping(true)
	if m.PointLost(stored) || !m.PointLost(spooled) {
		t.Errorf("of the points %d, which is stored, and %d, which is not, are lost: %t and %t", stored, spooled, m.PointLost(stored), m.PointLost(spooled))
	}
	far.finish(t, m)
	far.check(t, w)
	if last := point(); m.PointLost(last) || m.PointLost(stored) || !m.PointLost(spooled) {
		t.Error("after the gap, what was lost is not, or else")
	}
}
