package recovery

import (
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Choose finds the point that is wanted among those that a vault offers. What is latest is the newest: a latest point that was
// to be made first has been made by now.
func Choose(points []api.RecoveryPoint, want api.PointChoice) (api.RecoveryPoint, error) {
	var best *api.RecoveryPoint
	for i := range points {
		p := &points[i]
		fits := true
		switch want.Kind {
		case api.PointLatestAppConsistent:
			fits = p.Consistency == api.AppConsistent
		case api.PointCustom:
			fits = want.ID == "" && !p.At.After(want.At) || want.ID != "" && p.ID == want.ID
		}
		if fits && (best == nil || p.Seq > best.Seq) {
			best = p
		}
	}
	if best != nil {
		return *best, nil
	}
	return api.RecoveryPoint{}, fmt.Errorf("%s: the vault has %d points%s, none of them fits", wanted(want), len(points), span(points))
}

func wanted(w api.PointChoice) string {
	switch {
	case w.ID != "":
		return "point " + w.ID
	case !w.At.IsZero():
		return "a point at or before " + w.At.UTC().Format(time.RFC3339)
	}
	return "point " + string(w.Kind)
}

func span(points []api.RecoveryPoint) string {
	if len(points) == 0 {
		return ""
	}
	oldest, newest := points[0].At, points[0].At
	for _, p := range points {
		if p.At.Before(oldest) {
			oldest = p.At
		}
		if p.At.After(newest) {
			newest = p.At
		}
	}
	return " from " + oldest.UTC().Format(time.RFC3339) + " to " + newest.UTC().Format(time.RFC3339)
}
