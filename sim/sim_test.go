package sim

import (
	"bytes"
	"testing"
)

// TestDeterminism plays seeds twice: not a byte of the trace may differ.
func TestDeterminism(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		var a, b bytes.Buffer
		first, second := Run(seed, &a), Run(seed, &b)
		if !bytes.Equal(a.Bytes(), b.Bytes()) || first.Hash != second.Hash {
			t.Errorf("seed %d: two runs gave traces %s and %s", seed, first.Hash, second.Hash)
		}
		if first.Failure != nil {
			t.Errorf("seed %d: %s", seed, first.Failure)
		}
	}
}
