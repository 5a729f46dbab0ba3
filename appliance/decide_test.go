package appliance

import (
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/health"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// scene builds a view from a short text per member: "U" up, "D" down, small: in doubt, "?" unknown.
func scene(verdicts, active string) View {
	g := &api.ApplianceGroup{}
	g.Metadata.Name, g.Metadata.Tenant = "dmz", "default"
	v := View{Group: g, Verdicts: map[string]health.Verdict{}, Now: t0, Led: time.Hour}
	for i, c := range verdicts {
		name := string(rune('a' + i))
		g.Spec.Members = append(g.Spec.Members, api.Member{Name: name})
		h := map[rune]api.Health{'U': api.Up, 'u': api.Up, 'D': api.Down, 'd': api.Down, '?': api.Unknown}[c]
		v.Verdicts[name] = health.Verdict{Health: h, Since: t0.Add(-time.Hour), Detail: "timeout", Doubt: c == 'u' || c == 'd'}
	}
	g.Default()
	if active != "" {
		v.Assignment = &api.Assignment{Active: active, Generation: 3, Job: "dmz-3"}
		v.Job = &api.Job{}
		v.Job.Metadata.Name, v.Job.Status.Phase = "dmz-3", api.Succeeded
	}
	return v
}

func TestDecide(t *testing.T) {
	auto := func(v *View) { v.Group.Spec.Failback.Policy = api.Automatic }
	for _, c := range []struct {
		name     string
		verdicts string
		active   string
		change   func(*View)
		kind     api.JobKind
		to       string
		refused  string
		code     string // a condition
	}{
		{name: "all is well", verdicts: "UU", active: "a"},
		{name: "the active is down", verdicts: "DU", active: "a", kind: api.JobFailover, to: "b"},
		{name: "the active is unknown", verdicts: "?U", active: "a", code: "MemberUnknown"},
		{name: "both are down", verdicts: "DD", active: "a", code: "NoHealthyStandby"},
		{name: "the standby is unknown", verdicts: "D?", active: "a", code: "NoHealthyStandby"},
		{name: "the standby left the latest probe unanswered", verdicts: "Du", active: "a"},
		{name: "the dead one answers again", verdicts: "dU", active: "a"},
		{name: "the third is in no doubt", verdicts: "DuU", active: "a", kind: api.JobFailover, to: "c"},
		{name: "the third is healthy", verdicts: "DDU", active: "a", kind: api.JobFailover, to: "c"},
		{name: "manual", verdicts: "DU", active: "a", change: func(v *View) { v.Group.Spec.Failover.Policy = api.Manual }, code: "FailoverNeedsOperator"},
		{name: "paused", verdicts: "DU", active: "a", change: func(v *View) { v.Group.Spec.Paused = true }, code: "Paused"},
		{name: "flapping", verdicts: "DU", active: "a", change: func(v *View) {
			v.Assignment.AutomaticMoves = []time.Time{t0.Add(-3 * time.Minute), t0.Add(-2 * time.Minute), t0.Add(-time.Minute)}
		}, code: "FailoverDamped"},
		{name: "flapped long ago", verdicts: "DU", active: "a", change: func(v *View) {
			v.Assignment.AutomaticMoves = []time.Time{t0.Add(-30 * time.Minute), t0.Add(-2 * time.Minute), t0.Add(-time.Minute)}
		}, kind: api.JobFailover, to: "b"},
		{name: "flapped by a clock that was wrong", verdicts: "DU", active: "a", change: func(v *View) {
			v.Assignment.AutomaticMoves = []time.Time{t0.Add(20 * time.Minute), t0.Add(21 * time.Minute), t0.Add(22 * time.Minute)}
		}, kind: api.JobFailover, to: "b"},
		{name: "the target dies in mid-move", verdicts: "UD", active: "b", change: func(v *View) { v.Job.Status.Phase = api.Running }, kind: api.JobFailover, to: "a"},

		{name: "nobody yet", verdicts: "UU", kind: api.JobEstablish, to: "a"},
		{name: "nobody yet, first down", verdicts: "DU", kind: api.JobEstablish, to: "b"},
		{name: "nobody yet, first unknown, new leader", verdicts: "?U", change: func(v *View) { v.Led = time.Second }},
		{name: "nobody yet, first unknown, new group", verdicts: "?U", change: func(v *View) { v.Group.Metadata.Created = t0.Add(-time.Second) }},
		{name: "nobody yet, first unknown, a group of tomorrow", verdicts: "?U", change: func(v *View) { v.Group.Metadata.Created = t0.Add(time.Hour) }, kind: api.JobEstablish, to: "b"},
		{name: "nobody yet, first unknown for long", verdicts: "?U", kind: api.JobEstablish, to: "b"},
		{name: "nobody yet, all down", verdicts: "DD"},

		{name: "the first is back, manual", verdicts: "UU", active: "b"},
		{name: "the first is back", verdicts: "UU", active: "b", change: auto, kind: api.JobFailback, to: "a"},
		{name: "the first is back, not for long", verdicts: "UU", active: "b", change: func(v *View) {
			auto(v)
			v.Verdicts["a"] = health.Verdict{Health: api.Up, Since: t0.Add(-time.Minute)}
		}},
		{name: "the first is unknown", verdicts: "?U", active: "b", change: auto},

		{name: "drift", verdicts: "UU", active: "a", change: func(v *View) { v.Astray = []string{"core"} }, kind: api.JobRepair, to: "a"},
		{name: "drift onto a dead member", verdicts: "DD", active: "a", change: func(v *View) { v.Astray = []string{"core"} }},
		{name: "drift while a job runs", verdicts: "UU", active: "a", change: func(v *View) { v.Astray = []string{"core"}; v.Job.Status.Phase = api.Running }},
		{name: "drift of what was cancelled", verdicts: "UU", active: "a", change: func(v *View) { v.Astray = []string{"core"}; v.Job.Status.Phase = api.Cancelled }},
		{name: "blocked, not yet time", verdicts: "UU", active: "a", change: func(v *View) { v.Job.Status.Phase = api.Blocked; v.RetryAt = t0.Add(time.Second) }, code: "JobBlocked"},
		{name: "blocked, time", verdicts: "UU", active: "a", change: func(v *View) { v.Job.Status.Phase = api.Blocked; v.RetryAt = t0 }, kind: api.JobRepair, to: "a"},

		{name: "asked", verdicts: "UU", active: "a", change: ask("Failover", ""), kind: api.JobPlanned, to: "b"},
		{name: "asked while paused", verdicts: "UU", active: "a", change: func(v *View) { ask("Failover", "b")(v); v.Group.Spec.Paused = true }, kind: api.JobPlanned, to: "b"},
		{name: "asked for a dead one", verdicts: "UD", active: "a", change: ask("Failover", "b"), refused: "not known healthy"},
		{name: "asked for the active", verdicts: "UU", active: "a", change: ask("Failover", "a"), refused: "active already"},
		{name: "asked for a stranger", verdicts: "UU", active: "a", change: ask("Failover", "z"), refused: "none of that name"},
		{name: "asked with nobody to go to", verdicts: "UD", active: "a", change: ask("Failover", ""), refused: "no other member"},
		{name: "asked to cancel nothing", verdicts: "UU", active: "a", change: ask("Cancel", "dmz-3"), refused: "not running"},
		{name: "asked to retry what succeeded", verdicts: "UU", active: "a", change: ask("Retry", "dmz-3"), refused: "only Blocked and Cancelled"},
		{name: "asked to retry", verdicts: "UU", active: "a", change: func(v *View) { ask("Retry", "dmz-3")(v); v.Job.Status.Phase = api.Cancelled }, kind: api.JobRepair, to: "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := scene(c.verdicts, c.active)
			if c.change != nil {
				c.change(&v)
			}
			d := Decide(v)
			if d.Kind != c.kind || d.To != c.to {
				t.Errorf("decides %q to %q (%s), want %q to %q", d.Kind, d.To, d.Reason, c.kind, c.to)
			}
			if !strings.Contains(d.Refused, c.refused) || (c.refused == "") != (d.Refused == "") {
				t.Errorf("refuses %q, want %q", d.Refused, c.refused)
			}
			if c.code != "" && !has(d.Conditions, c.code) {
				t.Errorf("conditions %v, want %s", d.Conditions, c.code)
			}
		})
	}
}

func ask(kind api.RequestKind, to string) func(*View) {
	return func(v *View) { v.Request = &api.Request{Kind: kind, To: to, By: "ann"} }
}

func has(cs []api.Condition, code string) bool {
	for _, c := range cs {
		if c.Code == code {
			return true
		}
	}
	return false
}
