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

// TestPointsGrowOldByNewerOnes: a site that is gone, or a clock that is set wrong, costs no recovery point.
func TestPointsGrowOldByNewerOnes(t *testing.T) {
	at := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	var points []vault.PointInfo
	for i := range 24 {
		points = append(points, vault.PointInfo{Seq: uint64(i + 1), At: at.Add(time.Duration(i-23) * time.Hour)})
	}
	day := api.KeptStream{Retention: api.Duration(24 * time.Hour)}
	if got := keepPoints(points, day, at.Add(30*24*time.Hour)); slices.Contains(got, false) {
		t.Errorf("a month after the last point: %v", got)
	}
	newer := append(slices.Clone(points), vault.PointInfo{Seq: 25, At: at.Add(10 * time.Hour)})
	if got := keepPoints(newer, day, at.Add(10*time.Hour)); slices.Index(got, true) != 9 {
		t.Errorf("with a point 10 hours newer the first ones expire, and no others: %v", got)
	}
	// The source's clock was a year ahead for a while.
	ahead := slices.Clone(points)
	ahead[3].At = at.AddDate(1, 0, 0)
	for _, keeps := range []time.Duration{0, 24 * time.Hour} {
		if got := keepPoints(ahead, api.KeptStream{Retention: api.Duration(keeps)}, at); !got[23] {
			t.Errorf("retention %s: the newest point goes, because an older one says that it is newer: %v", keeps, got)
		}
	}
}
