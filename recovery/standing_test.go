package recovery

import (
	"testing"

	"github.com/understudy-ha/understudy/api"
)

// TestALastPointIsTaken: what a planned move is to lose nothing of is shipped until the point is chosen.
func TestALastPointIsTaken(t *testing.T) {
	accepts := func(v View) string {
		for _, s := range ProcessServer(v.ProcessServer, []View{v}).Section.ProcessServer.Streams {
			return s.Stream
		}
		return ""
	}
	v := view().after()
	if got := accepts(v); got != "u-1" {
		t.Errorf("in peace the process server takes %q", got)
	}
	v.Assignment.Machine = v.next(&api.Operation{Operation: api.OpFailover, ShutdownSource: true})
	if got := accepts(v); got != "u-1" {
		t.Errorf("before the point is chosen the process server takes %q", got)
	}
	v.Assignment.Machine.Run.Point = &api.RecoveryPoint{ID: "p", Stream: "u-1", Seq: 42}
	if got := accepts(v); got != "" {
		t.Errorf("after the point was chosen the process server takes %q", got)
	}
}
