package keeper

import (
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/vault"
)

// TestOnlyPoint: after a commit the one point stays alone; one that is not there does not cost the others.
func TestOnlyPoint(t *testing.T) {
	now := time.Now()
	points := []vault.PointInfo{{Seq: 10, At: now.Add(-3 * time.Minute)}, {Seq: 20, At: now.Add(-2 * time.Minute)}, {Seq: 30, At: now.Add(-time.Minute)}}
	keep := func(only uint64) []bool {
		return keepPoints(points, api.KeptStream{Retention: api.Duration(time.Hour), Only: only}, now)
	}
	if got := keep(20); !slices.Equal(got, []bool{false, true, false}) {
		t.Errorf("only 20: %v", got)
	}
	if got := keep(99); !slices.Equal(got, keep(0)) || !slices.Contains(got, true) {
		t.Errorf("only 99, which is not there: %v, without it %v", got, keep(0))
	}
}
