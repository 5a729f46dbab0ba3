// Package recovery decides for machines and recovery plans: what may be asked in
// which state, what an operation intends, by which steps it is reached, and what every
// node has to be told. Everything in it is pure.
//
//	                 Failover                 Commit                  Reprotect
//	Protected ───────────────► CommitPending ────────► Committed ───────────────► Protected
//	at Primary ◄─────────────  at Recovery             at Recovery                at Recovery
//	    ▲       CancelFailover   │ ▲ ChangePoint                                     │
//	    │                        └─┘                                                 │ Failback
//	    │      ReEnable             Commit                                           ▼
//	    └────────────── Committed ◄─────── CommitPending at Primary ◄────────────────┘
//	                    at Primary              │ CancelFailover
//	                                            └──► Committed at Recovery
//
// A drill (TestFailover, TestFailoverCleanup) goes on beside Protected at Primary and changes nothing of it.
package recovery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// State is everything that decides which operations are allowed.
type State struct {
	Stage    api.Stage
	Location api.Location
	// Busy: a job runs. Moving: it is one that an operator may take back (Failover, Failback, ChangePoint).
	Busy, Moving bool
	// Drill is up, or was and is not cleaned up.
	Drill bool
	// Initial: it is known that no point is stored yet.
	Initial bool
	// Paused and Stopped as asked for.
	Paused, Stopped bool
	// FromPoint: the active side was started from a point; InPlace: on the disks it had before.
	FromPoint, InPlace bool
	// Arrived: the latest job has succeeded, so that a moved machine is there.
	Arrived bool
	// Repairing: the latest job is a repair that has not ended. What is asked for takes over from it, but a move is not committed meanwhile.
	Repairing bool
	// Searching: the point that the active side is to start from is not found yet.
	Searching bool
	// WayBack: the spec has a failback section. Reached: the passive side's node has a session. VM: we run the machine.
	WayBack, Reached, VM bool
	// Partial: what runs at home is not known to have the whole disks there yet; the rest is in the vault.
	Partial bool
}

// rule says when an operation is allowed. Lacks says, of a state that fits but for one thing, what is missing.
type rule struct {
	op    api.OperationKind
	ok    func(State) bool
	lacks func(State) string
}

func none(State) string { return "" }

func (s State) at(stage api.Stage, l api.Location) bool { return s.Stage == stage && s.Location == l }

// rules in the order in which operations are shown. While a job runs all but CancelFailover wait.
var rules = []rule{
	{api.OpTestFailover, func(s State) bool { return s.at(api.StageProtected, api.Primary) && !s.Drill }, State.noPoint},
	{api.OpTestFailoverCleanup, func(s State) bool { return s.Drill }, none},
	{api.OpFailover, func(s State) bool { return s.at(api.StageProtected, api.Primary) }, State.noPoint},
	{api.OpChangePoint, func(s State) bool { return s.at(api.StagePending, api.Recovery) && !s.InPlace }, none},
	{api.OpCommit, func(s State) bool { return s.Stage == api.StagePending }, func(s State) string {
		return cmp.Or(when(s.Repairing, "a repair is running, which ends by itself"), when(!s.Arrived, "the move has not succeeded"))
	}},
	{api.OpCancelFailover, func(s State) bool { return s.Stage == api.StagePending }, func(s State) string {
		return when(s.Arrived && !s.Reached, "the node that it would go back to has no session: the machine would run nowhere")
	}},
	{api.OpReprotect, func(s State) bool { return s.at(api.StageCommitted, api.Recovery) }, func(s State) string {
		if !s.WayBack {
			return "spec.failback is missing"
		}
		return when(!s.Reached, "the source's node has no session")
	}},
	{api.OpFailback, func(s State) bool { return s.at(api.StageProtected, api.Recovery) }, func(s State) string {
		if !s.Reached {
			return "the source's node has no session"
		}
		return cmp.Or(when(s.Paused, "nothing is shipped while the machine is paused; Resume it first"), s.noPoint())
	}},
	{api.OpReEnable, func(s State) bool {
		return s.at(api.StageCommitted, api.Primary) || s.at(api.StageDisabled, api.Primary)
	}, none},
	{api.OpResync, func(s State) bool { return s.at(api.StageProtected, api.Primary) && !s.FromPoint && !s.Paused }, none},
	{api.OpPause, func(s State) bool { return s.Stage == api.StageProtected && !s.Paused }, none},
	{api.OpResume, func(s State) bool { return s.Stage == api.StageProtected && s.Paused }, none},
	{api.OpShutdown, func(s State) bool { return s.VM && !s.Stopped }, func(s State) string {
		return when(s.Searching, "the point that the machine starts from is not found yet")
	}},
	{api.OpStart, func(s State) bool { return s.VM && s.Stopped }, none},
	{api.OpDisable, func(s State) bool {
		return s.Location == api.Primary && (s.Stage == api.StageProtected || s.Stage == api.StageCommitted) && !s.Drill
	}, func(s State) string { return when(s.Partial, "its disks are not whole yet") }},
}

func (s State) noPoint() string { return when(s.Initial, "no recovery point is stored yet") }

func when(cond bool, why string) string {
	if cond {
		return why
	}
	return ""
}

// Allowed lists what may be asked in a state.
func Allowed(s State) []api.OperationKind {
	out := []api.OperationKind{}
	for _, r := range rules {
		if s.Stage != "" && r.ok(s) && r.lacks(s) == "" && (!s.Busy || r.op == api.OpCancelFailover && s.Moving) {
			out = append(out, r.op)
		}
	}
	return out
}

// Refuse says why an operation is not allowed, and what would be; "" if it is.
func Refuse(s State, op api.OperationKind) string {
	allowed := Allowed(s)
	if slices.Contains(allowed, op) {
		return ""
	}
	why := "the machine is " + s.words()
	for _, r := range rules {
		if r.op == op && s.Stage != "" && r.ok(s) && r.lacks(s) != "" {
			why = r.lacks(s)
		}
	}
	if s.Busy {
		why = "a job is running"
	}
	now := "nothing is allowed now"
	if len(allowed) > 0 {
		now = "allowed now: " + list(allowed)
	}
	return fmt.Sprintf("%s is not allowed: %s; %s", op, why, now)
}

func (s State) words() string {
	if s.Stage == "" {
		return "not set up yet"
	}
	w := fmt.Sprintf("%s at %s", s.Stage, s.Location)
	for _, x := range []struct {
		is   bool
		word string
	}{{s.Drill, "with a drill to clean up"}, {s.Paused, "paused"}, {s.Stopped, "shut down"}, {s.InPlace, "on its own disks"}} {
		if x.is {
			w += ", " + x.word
		}
	}
	return w
}

func list(ops []api.OperationKind) string {
	words := make([]string, len(ops))
	for i, op := range ops {
		words[i] = string(op)
	}
	return strings.Join(words, ", ")
}

// Already tells whether a machine is where an operation would bring it, so that a plan passes over it.
func Already(m *api.MachineAssignment, op api.OperationKind) bool {
	if m == nil {
		return false
	}
	moved := func(l api.Location) bool {
		return m.Location == l && (m.Stage == api.StagePending || m.Stage == api.StageCommitted)
	}
	switch op {
	case api.OpTestFailover:
		return m.Drill != nil && m.Drill.Cleanup == nil
	case api.OpTestFailoverCleanup:
		return m.Drill == nil
	case api.OpFailover:
		return m.Location == api.Recovery
	case api.OpFailback:
		return moved(api.Primary)
	case api.OpCommit:
		return m.Stage != api.StagePending
	case api.OpCancelFailover:
		if m.Location == api.Recovery { // a failback was taken back
			return m.Stage != api.StagePending && m.Before != nil && m.Before.Run != nil && m.Before.Run.InPlace
		}
		return m.Stage == api.StageProtected
	case api.OpReprotect:
		return m.Location == api.Recovery && m.Stage == api.StageProtected
	case api.OpReEnable:
		return m.Location == api.Primary && m.Stage == api.StageProtected
	case api.OpShutdown:
		return m.Stopped
	}
	return false
}
