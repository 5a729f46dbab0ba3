//go:build !mutants

package sim

import (
	"testing"

	"github.com/understudy-ha/understudy/mutant"
)

// TestOrdinaryBuildHasNoDefects: a hunt in it must say so and not report that nothing was found.
func TestOrdinaryBuildHasNoDefects(t *testing.T) {
	if _, err := Hunt(Appliances, mutant.MarginZero, 1, 1, 1); err == nil {
		t.Error("want an error that names the tag")
	}
}
