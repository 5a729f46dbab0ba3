//go:build mutants

package vault

import (
	"flag"
	"testing"

	"github.com/understudy-ha/understudy/mutant"
)

var only = flag.String("vaultdefect", "", "hunt for this one")

// TestEveryPlantedDefectIsFound plays seeds with one defect at a time until one shows it.
func TestEveryPlantedDefectIsFound(t *testing.T) {
	defer mutant.Plant("")
	for _, name := range mutant.Vault() {
		if *only != "" && *only != string(name) {
			continue
		}
		mutant.Plant(name)
		found := error(nil)
		seed := uint64(1)
		for ; seed <= 300 && found == nil; seed++ {
			_, found = simulate(seed)
		}
		if found == nil {
			t.Errorf("%s: 300 seeds do not show it", name)
			continue
		}
		t.Logf("%s: %v", name, found)
	}
}
