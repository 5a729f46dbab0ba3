package volume

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestCrashes does random requests against a model, ends the process or cuts the power at any operation on the files, and compares every
// sector after it.
func TestCrashes(t *testing.T) {
	worlds := 100
	if testing.Short() {
		worlds = 20
	}
	for seed := range worlds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			w := newWorld(t, r, seed%2 == 1)
			for range 8 {
				w.live()
				power := r.IntN(3) > 0
				w.crash(power)
				w.settle(power)
			}
			w.finish()
		})
	}
}

// TestACutFlushForgetsNoWrite cuts the power at every operation of the first flush after a write: what is on the disk then and differs from what
// it was made as counts as written.
func TestACutFlushForgetsNoWrite(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		for after := range 6 {
			w := newWorld(t, rand.New(rand.NewPCG(seed, 2)), false)
			p := make([]byte, 1024)
			fill(p, w.next)
			w.may(8, 2, w.next)
			if err := w.v.WriteAt(t.Context(), p, 8*sector, false); err != nil {
				t.Fatal(err)
			}
			w.did(8, 2, w.next, false)
			w.data.fuse, w.meta.fuse = &after, &after
			err := w.v.Flush(t.Context())
			if err == nil {
				w.flushed()
			}
			w.crash(true)
			w.settle(true)
			if err != nil && after == 5 {
				t.Fatalf("a flush has more operations than are cut: %v", err)
			}
		}
	}
}
