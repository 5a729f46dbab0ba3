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
