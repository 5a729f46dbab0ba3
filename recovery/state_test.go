package recovery

import (
	"slices"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

// peace is a machine with everything, where nothing is wrong.
func peace(stage api.Stage, l api.Location) State {
	return State{Stage: stage, Location: l, Arrived: true, WayBack: true, Reached: true, VM: true, FromPoint: l == api.Recovery}
}

func TestAllowedOperations(t *testing.T) {
	p, r := api.Primary, api.Recovery
	with := func(s State, change func(*State)) State { change(&s); return s }
	for _, c := range []struct {
		name  string
		state State
		want  string
	}{
		{"nothing yet", State{}, ""},
		{"protected", peace(api.StageProtected, p), "TestFailover, Failover, Resync, Pause, Shutdown, Disable"},
		{"first copy", with(peace(api.StageProtected, p), func(s *State) { s.Initial = true }), "Resync, Pause, Shutdown, Disable"},
		{"drill", with(peace(api.StageProtected, p), func(s *State) { s.Drill = true }), "TestFailoverCleanup, Failover, Resync, Pause, Shutdown"},
		{"paused", with(peace(api.StageProtected, p), func(s *State) { s.Paused = true }), "TestFailover, Failover, Resume, Shutdown, Disable"},
		{"stopped", with(peace(api.StageProtected, p), func(s *State) { s.Stopped = true }), "TestFailover, Failover, Resync, Pause, Start, Disable"},
		{"no VM of ours", with(peace(api.StageProtected, p), func(s *State) { s.VM = false }), "TestFailover, Failover, Resync, Pause, Disable"},
		{"came home", with(peace(api.StageProtected, p), func(s *State) { s.FromPoint = true }), "TestFailover, Failover, Pause, Shutdown, Disable"},
		{"source is gone", with(peace(api.StageProtected, p), func(s *State) { s.Reached = false }), "TestFailover, Failover, Resync, Pause, Shutdown, Disable"},
		{"busy", with(peace(api.StageProtected, p), func(s *State) { s.Busy = true }), ""},
		{"moving", with(peace(api.StagePending, r), func(s *State) { s.Busy, s.Moving, s.Arrived = true, true, false }), "CancelFailover"},
		{"moved", peace(api.StagePending, r), "ChangePoint, Commit, CancelFailover, Shutdown"},
		{"move blocked", with(peace(api.StagePending, r), func(s *State) { s.Arrived = false }), "ChangePoint, CancelFailover, Shutdown"},
		{"move repaired", with(peace(api.StagePending, r), func(s *State) { s.Arrived, s.Repairing = false, true }), "ChangePoint, CancelFailover, Shutdown"},
		{"moved during a drill", with(peace(api.StagePending, r), func(s *State) { s.Drill = true }), "TestFailoverCleanup, ChangePoint, Commit, CancelFailover, Shutdown"},
		{"committed", peace(api.StageCommitted, r), "Reprotect, Shutdown"},
		{"committed, no way back", with(peace(api.StageCommitted, r), func(s *State) { s.WayBack = false }), "Shutdown"},
		{"committed, source is gone", with(peace(api.StageCommitted, r), func(s *State) { s.Reached = false }), "Shutdown"},
		{"reprotected", peace(api.StageProtected, r), "Failback, Pause, Shutdown"},
		{"reprotected, paused", with(peace(api.StageProtected, r), func(s *State) { s.Paused = true }), "Resume, Shutdown"},
		{"reprotecting", with(peace(api.StageProtected, r), func(s *State) { s.Initial = true }), "Pause, Shutdown"},
		{"reprotected, source is gone", with(peace(api.StageProtected, r), func(s *State) { s.Reached = false }), "Pause, Shutdown"},
		{"failed back", with(peace(api.StagePending, p), func(s *State) { s.FromPoint, s.InPlace = true, true }), "Commit, CancelFailover, Shutdown"},
		{"moved, source is gone", with(peace(api.StagePending, r), func(s *State) { s.Reached = false }), "ChangePoint, Commit, Shutdown"},
		{"move blocked, source is gone", with(peace(api.StagePending, r), func(s *State) { s.Arrived, s.Reached = false, false }), "ChangePoint, CancelFailover, Shutdown"},
		{"moved, no point found", with(peace(api.StagePending, r), func(s *State) { s.Arrived, s.Searching = false, true }), "ChangePoint, CancelFailover"},
		{"failed back, not whole", with(peace(api.StageCommitted, p), func(s *State) { s.FromPoint, s.InPlace, s.Partial = true, true, true }), "ReEnable, Shutdown"},
		{"failed back for good", with(peace(api.StageCommitted, p), func(s *State) { s.FromPoint, s.InPlace = true, true }), "ReEnable, Shutdown, Disable"},
		{"disabled", peace(api.StageDisabled, p), "ReEnable, Shutdown"},
	} {
		if got := list(Allowed(c.state)); got != c.want {
			t.Errorf("%s: allowed %s, want %s", c.name, got, c.want)
		}
	}
}

// TestEveryStateIsJudged goes through all states: what is refused says why and what would be allowed, what is allowed is not
// refused, and nothing but taking a move back is allowed while a job runs.
func TestEveryStateIsJudged(t *testing.T) {
	states := 0
	for _, stage := range []api.Stage{"", api.StageDisabled, api.StageProtected, api.StagePending, api.StageCommitted} {
		for _, l := range []api.Location{api.Primary, api.Recovery} {
			for bits := range 1 << 15 {
				b := func(i int) bool { return bits>>i&1 == 1 }
				s := State{stage, l, b(0), b(1), b(2), b(3), b(4), b(5), b(6), b(7), b(8), b(9), b(10), b(11), b(12), b(13), b(14)}
				states++
				allowed := Allowed(s)
				for _, op := range api.Operations() {
					why := Refuse(s, op)
					if slices.Contains(allowed, op) != (why == "") {
						t.Fatalf("%+v: %s is allowed %v, refused with %q", s, op, allowed, why)
					}
					if why != "" && !strings.Contains(why, "allowed now") {
						t.Fatalf("%+v: %s: %q does not say what would be allowed", s, op, why)
					}
				}
				if s.Busy && len(allowed) > 0 && (len(allowed) > 1 || allowed[0] != api.OpCancelFailover) {
					t.Fatalf("%+v: allowed %v while a job runs", s, allowed)
				}
			}
		}
	}
	if states != 5*2*32768 {
		t.Fatalf("%d states", states)
	}
}

func TestRefusalsSayWhatIsMissing(t *testing.T) {
	s := peace(api.StageProtected, api.Primary)
	s.Initial = true
	if got := Refuse(s, api.OpFailover); got != "Failover is not allowed: no recovery point is stored yet; allowed now: Resync, Pause, Shutdown, Disable" {
		t.Error(got)
	}
	s = peace(api.StageCommitted, api.Recovery)
	if got := Refuse(s, api.OpFailback); got != "Failback is not allowed: the machine is FailoverCommitted at Recovery; allowed now: Reprotect, Shutdown" {
		t.Error(got)
	}
	moved := peace(api.StagePending, api.Recovery)
	moved.Arrived, moved.Repairing = false, true
	if got := Refuse(moved, api.OpCommit); !strings.HasPrefix(got, "Commit is not allowed: a repair is running, which ends by itself;") {
		t.Error(got)
	}
	s.WayBack = false
	if got := Refuse(s, api.OpReprotect); !strings.Contains(got, "spec.failback is missing") {
		t.Error(got)
	}
}
