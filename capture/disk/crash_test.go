package disk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

func testConfig(w *world, boot string) Config {
	c := Config{
		MachineUID: "u", Stream: "u-1", Epoch: 1, Granule: 4 << 10, Access: Writable, ZeroBase: true,
		ActivityExtents: 32, QueueBytes: 1 << 20, QueueRecords: 400, RotateEvery: 2 * time.Millisecond,
		directory: w.dir, boot: boot, extent: 16 << 10,
	}
	for i, d := range w.disks {
		c.Disks = append(c.Disks, DiskConfig{ID: fmt.Sprint("disk", i), Lower: d})
	}
	return c
}

func mustOpen(t *testing.T, c Config) *Machine {
	t.Helper()
	m, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// writers change disks by chance until ctx ends. Who holds quiet for writing knows that nothing is under way.
func writers(ctx context.Context, m *Machine, w *world, rnd *rand.Rand, n int, quiet *sync.RWMutex, far *remote) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range n {
		r := rand.New(rand.NewPCG(rnd.Uint64(), rnd.Uint64()))
		wg.Go(func() {
			for ctx.Err() == nil {
				quiet.RLock()
				change(ctx, m, w, r)
				quiet.RUnlock()
				if r.IntN(60) == 0 {
					point(m, w, r, quiet, far)
				}
				if r.IntN(4) == 0 {
					time.Sleep(time.Duration(r.IntN(500)) * time.Microsecond)
				}
			}
		})
	}
	return &wg
}

func change(ctx context.Context, m *Machine, w *world, r *rand.Rand) {
	d := m.disks[r.IntN(len(m.disks))]
	n := (1 + r.Int64N(24)) * 512
	off := r.Int64N((d.Size()-n)/512) * 512
	switch r.IntN(12) {
	case 0:
		d.Zero(ctx, off, n, false, r.IntN(2) == 0)
	case 1:
		d.Trim(ctx, off, n, false)
	case 2:
		d.Flush(ctx)
	case 3:
		if r.IntN(40) == 0 {
			w.disks[d.index].fail.Add(1)
		}
	case 4:
		if r.IntN(100) == 0 {
			w.disks[d.index].flaky.Add(1)
		}
	default:
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		d.WriteAt(ctx, p, off, r.IntN(20) == 0)
	}
}

// point makes one while nothing is under way, and remembers what it is to look like.
func point(m *Machine, w *world, r *rand.Rand, quiet *sync.RWMutex, far *remote) {
	quiet.Lock()
	defer quiet.Unlock()
	id := strconv.FormatUint(r.Uint64(), 36)
	var want [][]byte
	for _, d := range w.disks {
		want = append(want, d.content())
	}
	far.mu.Lock()
	far.points[id] = want
	far.mu.Unlock()
	if _, err := m.Point(context.Background(), journal.PointInfo{ID: id, Consistency: journal.Crash}); err != nil {
		far.mu.Lock()
		delete(far.points, id)
		far.mu.Unlock()
	}
}

// seeds says which seeds a test plays: SEED alone, or so many.
func seeds(t *testing.T, n uint64, play func(t *testing.T, seed uint64)) {
	if s := os.Getenv("SEED"); s != "" {
		one, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(s, func(t *testing.T) { play(t, one) })
		return
	}
	if s, err := strconv.ParseUint(os.Getenv("SEEDS"), 10, 64); err == nil {
		n = s
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, seed) })
	}
}

// TestCrashes runs concurrent writers against a far side that lags, forgets and reconnects, and cuts the power or kills the
// process a few times at any operation. Each time: what differs from what is stored is dirty, positions are never given
// twice, and the equation of the counters holds. In the end the stored images are the disks, and every point that was
// delivered was the disks at that time.
func TestCrashes(t *testing.T) {
	var lives, powerCuts, points int
	seeds(t, 6, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(1<<20, 2<<20+512)
		for _, d := range w.disks { // there was something before
			for i := 0; i < len(d.cur)/2; i += 700 {
				d.cur[i], d.durable[i] = byte(i), byte(i)
			}
		}
		far := newRemote([]int64{1 << 20, 2<<20 + 512})
		boot, given := 0, uint64(0)
		for range 4 {
			lives++
			m := mustOpen(t, testConfig(w, fmt.Sprint("boot", boot)))
			if next := m.Position().Captured + 1; next <= given {
				t.Fatalf("position %d is given again, %d was given before", next, given)
			}
			far.covered(t, w, m)
			power := r.IntN(2) == 0
			w, far = live(t, m, w, far, r, power)
			given, _ = far.positions()
			if power {
				powerCuts++
				boot++
			}
			if r.IntN(3) == 0 {
				far.forget()
			}
		}
		m := mustOpen(t, testConfig(w, fmt.Sprint("boot", boot)))
		far.covered(t, w, m)
		far.finish(t, m)
		far.check(t, w)
		if c := m.Counters(); !c.Hold() || c.Dirty != 0 {
			t.Errorf("counters at the end: %+v", c)
		}
		if dirty := m.DirtyRanges(); len(dirty) != 0 {
			t.Errorf("all is stored, and dirty are %v", dirty)
		}
		points += far.seen
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d lives, %d power cuts, %d points compared", lives, powerCuts, points)
}

// live runs load for a while, and crashes. It gives what is left.
func live(t *testing.T, m *Machine, w *world, far *remote, r *rand.Rand, power bool) (*world, *remote) {
	ctx, cancel := context.WithCancel(t.Context())
	var quiet sync.RWMutex
	slow := func() { // some requests take long, so that a crash finds them half way
		if rand.IntN(40) == 0 {
			time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
		}
	}
	w.pause.Store(&slow)
	load := writers(ctx, m, w, r, 4, &quiet, far)
	var sender sync.WaitGroup
	senderRandom := rand.New(rand.NewPCG(r.Uint64(), 1))
	sender.Go(func() { far.drain(ctx, m, senderRandom, w) })
	deadline := time.Now().Add(time.Duration(20+r.IntN(150)) * time.Millisecond)
	for time.Now().Before(deadline) {
		if c := m.Counters(); !c.Hold() {
			t.Errorf("captured %d is not stored %d + dirty %d", c.Captured, c.Stored, c.Dirty)
			break
		}
		time.Sleep(time.Millisecond)
	}
	var later *remote
	next := w.crash(r, power, func() { later = far.clone() })
	cancel()
	load.Wait()
	sender.Wait()
	m.abandon()
	return next, later
}
