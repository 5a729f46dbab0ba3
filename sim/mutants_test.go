//go:build mutants

package sim

import (
	"runtime"
	"testing"

	"github.com/understudy-ha/understudy/mutant"
)

// TestMutants plants every defect and wants it found soon; `make sim` allows a thousand seeds.
func TestMutants(t *testing.T) {
	for kind, all := range map[World][]mutant.Name{Appliances: mutant.All(), Machines: mutant.Machines()} {
		for _, n := range all {
			h, err := Hunt(kind, n, 1, 300, runtime.NumCPU())
			if err != nil {
				t.Fatal(err)
			}
			if !h.Found {
				t.Errorf("%s: not found by %d seeds", n, h.Tried)
				continue
			}
			t.Logf("%s: seed %d, %s", n, h.Seed, h.Failure)
		}
	}
}
