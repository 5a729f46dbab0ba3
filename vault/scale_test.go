package vault

import (
	"context"
	"flag"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/dir"
)

var scaleExtents = flag.Int("vaultextents", 400_000, "indexed blocks of the big disk in TestABigDiskOpensLikeASmallOne; 20000000 is a full 1 TiB disk")

// counting counts what is asked of a store.
type counting struct {
	objstore.Store
	requests, bytes atomic.Int64
}

func (c *counting) Get(ctx context.Context, key string) ([]byte, objstore.Tag, error) {
	b, tag, err := c.Store.Get(ctx, key)
	c.requests.Add(1)
	c.bytes.Add(int64(len(b)))
	return b, tag, err
}

func (c *counting) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	c.requests.Add(1)
	c.bytes.Add(n)
	return c.Store.GetRange(ctx, key, off, n)
}

const blockEvery = 52 << 10 // one 4 KiB block in so many bytes: 20 million on 1 TiB

// layered makes a vault whose one stream is a disk of a size in one layer, with a block every blockEvery bytes.
func layered(t *testing.T, s objstore.Store, size int64) *Vault {
	t.Helper()
	v := testVault(t, s, Tuning{Quiet: true})
	disks := []Disk{{ID: "root", Size: size}}
	w := openWriter(t, v, StreamSpec{ID: "m-1", Epoch: 1, Machine: Machine{UID: "m"}, Disks: disks})
	appendAll(t, w, []journal.Record{{Seq: 1, Kind: journal.Flush}, point(2)})
	st, err := v.load(t.Context(), "m-1")
	if err != nil {
		t.Fatal(err)
	}
	b := &layerBuilder{v: v, stream: "m-1", ref: layerRef{From: 0, To: 2, Chain: st.Chain, Name: "all"}}
	data := make([]byte, 4096)
	for off := int64(0); off+4096 <= size; off += blockEvery {
		le.PutUint64(data, uint64(off))
		b.open = journal.Record{Seq: 1, Kind: journal.Write, Off: off, Len: 4096, Data: data}
		if err := b.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l, err := b.finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var r CompactReport
	if err := v.adopt(t.Context(), "m-1", l, 0, &r); err != nil || r.Layers != 1 {
		t.Fatal(r, err)
	}
	return v
}

// cost is what it takes to open a disk and to read what a boot reads.
type cost struct {
	requests, bytes int64
	heap            int64
	took            time.Duration
}

func boot(t *testing.T, v *Vault, c *counting) cost {
	t.Helper()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.requests.Store(0)
	c.bytes.Store(0)
	start := time.Now()
	view, err := v.View(t.Context(), "m-1", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	r := rand.New(rand.NewPCG(1, 12))
	p := make([]byte, 64<<10)
	for range 300 {
		block := r.Int64N(1<<30/blockEvery-2) * blockEvery
		if _, err := view.Disk(0).ReadAt(t.Context(), p, block); err != nil || le.Uint64(p) != uint64(block) {
			t.Fatalf("block at %d: %d %v", block, le.Uint64(p), err)
		}
	}
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	return cost{c.requests.Load(), c.bytes.Load(), int64(after.HeapAlloc) - int64(before.HeapAlloc), took}
}

// TestABigDiskOpensLikeASmallOne: what a boot costs does not depend on how much is indexed beside what it reads. Times are
// logged and not judged; on an idle machine they differ by a few per cent.
func TestABigDiskOpensLikeASmallOne(t *testing.T) {
	if testing.Short() {
		*scaleExtents = min(*scaleExtents, 100_000)
	}
	costs := []cost{}
	for _, size := range []int64{1 << 30, int64(*scaleExtents) * blockEvery} {
		inner, err := dir.Open(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer inner.Close()
		c := &counting{Store: inner}
		v := layered(t, c, size/journal.Sector*journal.Sector)
		best := boot(t, v, c)
		for range 4 {
			if again := boot(t, v, c); again.took < best.took {
				best = again
			}
		}
		t.Logf("%d bytes, %d blocks: %d requests, %d bytes, %d KiB of heap, %v", size, size/blockEvery, best.requests, best.bytes, best.heap>>10, best.took)
		costs = append(costs, best)
	}
	small, big := costs[0], costs[1]
	list := int64(*scaleExtents/8192+1) * partEntry // of its parts: the one thing that is read whole
	if 2*big.requests > 3*small.requests || 2*(big.bytes-list) > 3*small.bytes || 2*big.heap > 3*small.heap+(1<<20) {
		t.Errorf("a small disk costs %+v, a big one %+v", small, big)
	}
}

// TestSmallRecordsAreLayeredEarly: what a view holds in memory of the segments after the newest layer is bounded by their records, however
// small these are stored.
func TestSmallRecordsAreLayeredEarly(t *testing.T) {
	v, _ := memoryVault(t, Tuning{CheckpointRecs: 100, Quiet: true})
	w := openWriter(t, v, spec("m-1", 1))
	seq := uint64(0)
	for segments := 1; segments <= 3; segments++ {
		var recs []journal.Record
		for range 40 {
			seq++
			recs = append(recs, journal.Record{Seq: seq, Kind: journal.Flush})
		}
		appendAll(t, w, recs)
		r, err := v.Compact(t.Context(), "m-1")
		if want := segments / 3; err != nil || r.Made != want {
			t.Errorf("%d records in %d segments make %d layers, want %d: %v", seq, segments, r.Made, want, err)
		}
	}
}
