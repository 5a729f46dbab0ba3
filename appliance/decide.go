// Package appliance decides for groups of network virtual appliances: who should be
// active, why, and by what steps. Everything in it is pure.
package appliance

import (
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/mutant"
)

// View is everything a decision about one group may look at.
type View struct {
	Group *api.ApplianceGroup
	// Assignment in force; nil before the first.
	Assignment *api.Assignment
	// Verdicts by member.
	Verdicts map[string]health.Verdict
	// Job is the assignment's job; nil if there is none or it is not known.
	Job *api.Job
	// Request of an operator; nil if there is none.
	Request *api.Request
	// Astray lists what is known to point elsewhere than the assignment says.
	Astray []string
	// RetryAt is when a Blocked job may be tried again.
	RetryAt time.Time
	// Led is how long this controller has been leading.
	Led time.Duration
	Now time.Time
}

// Decision is what to do about a group now. The zero Kind means: nothing.
type Decision struct {
	Kind   api.JobKind
	From   string
	To     string
	Reason string
	// Detected is when the first sign of it was seen; zero if there was no sign.
	Detected time.Time
	// Answered tells that the operator's request is dealt with; Refused says why it is not done.
	Answered bool
	Refused  string
	// CancelJob asks the running job to stop at its next step boundary.
	CancelJob bool
	// Conditions that hold now. Their Since is the caller's business.
	Conditions []api.Condition
	// Again is when to decide anew even if nothing happens; 0: no need.
	Again time.Duration
}

// settleIn is how long a new leader, or a new group, waits for verdicts on members that would rather be chosen, when nobody is active yet.
const settleIn = 10 * time.Second

// doubtFor is how soon to look again when the latest probe spoke against a verdict.
const doubtFor = 10 * time.Millisecond

// Decide decides. The rules, first match wins: an operator's request; nobody active yet; the active member is down; the
// preferred member is back; the world drifted.
func Decide(v View) Decision {
	d := Decision{}
	v.conditions(&d)
	switch {
	case v.Request != nil && v.answer(&d):
	case v.Group.Spec.Paused:
	case v.Assignment == nil:
		v.establish(&d)
	case v.verdict(v.Assignment.Active).Health == api.Down && !v.member(v.Assignment.Active).gone():
		v.failover(&d)
	case v.member(v.Assignment.Active).gone():
		v.replace(&d)
	case v.Group.Spec.Failback.Policy == api.Automatic && v.Assignment.Active != v.Group.Spec.Members[0].Name:
		v.failback(&d)
	}
	if d.Kind == "" && !v.Group.Spec.Paused {
		v.repair(&d)
	}
	return d
}

func (v View) verdict(member string) health.Verdict {
	if vd, ok := v.Verdicts[member]; ok {
		return vd
	}
	return health.Verdict{Health: api.Unknown}
}

type found struct{ m *api.Member }

func (f found) gone() bool { return f.m == nil }

func (v View) member(name string) found {
	i := slices.IndexFunc(v.Group.Spec.Members, func(m api.Member) bool { return m.Name == name })
	if i < 0 {
		return found{}
	}
	return found{&v.Group.Spec.Members[i]}
}

// standby gives the first member in order of preference, other than active, that is known healthy; one in doubt comes
// after all others.
func (v View) standby(active string) string {
	doubtful := ""
	for _, m := range v.Group.Spec.Members {
		if m.Name == active || v.verdict(m.Name).Health != api.Up && !mutant.On(mutant.StandbyNotProbed) {
			continue
		}
		if !v.verdict(m.Name).Doubt {
			return m.Name
		}
		if doubtful == "" {
			doubtful = m.Name
		}
	}
	return doubtful
}

// moving tells whether a job is under way.
func (v View) moving() bool { return v.Job != nil && v.Job.Status.Phase == api.Running }

func (v View) establish(d *Decision) {
	to := ""
	for _, m := range v.Group.Spec.Members {
		h := v.verdict(m.Name).Health
		if probed := v.probed(); h == api.Unknown && probed < settleIn {
			d.Again = settleIn - probed
			return
		}
		if h == api.Up {
			to = m.Name
			break
		}
	}
	if to == "" {
		return
	}
	d.Kind, d.To, d.Reason = api.JobEstablish, to, "first healthy member in order of preference"
}

// probed is how long the members can have been probed for this leader. A group made in the future, by the clocks, counts as old.
func (v View) probed() time.Duration {
	if age := v.Now.Sub(v.Group.Metadata.Created); age >= 0 {
		return min(v.Led, age)
	}
	return v.Led
}

func (v View) failover(d *Decision) {
	active := v.Assignment.Active
	dead := v.verdict(active)
	to := v.standby(active)
	switch {
	case v.Group.Spec.Failover.Policy == api.Manual:
		d.condition("FailoverNeedsOperator", api.Critical, fmt.Sprintf("%s is down (%s) and failover is manual: run `understudy failover %s`", active, dead.Detail, v.Group.Metadata.Name), "traffic through the group")
		return
	case to == "":
		d.condition("NoHealthyStandby", api.Critical, fmt.Sprintf("%s is down (%s) and no other member is known healthy: staying", active, dead.Detail), "traffic through the group")
		return
	case dead.Doubt || v.verdict(to).Doubt:
		d.Again = doubtFor // the dead one rises, or the standby falls too; or the next probe ends the doubt
		return
	case v.moving() && mutant.On(mutant.NoSupersede):
		return
	}
	if wait := v.damped(); wait > 0 {
		d.condition("FailoverDamped", api.Critical, fmt.Sprintf("%s is down, but %d automatic moves happened within %v: the next waits %v", active, v.Group.Spec.Failover.Damping.Moves, v.Group.Spec.Failover.Damping.Window, wait.Round(time.Second)), "traffic through the group")
		d.Again = wait
		return
	}
	d.Kind, d.From, d.To, d.Detected = api.JobFailover, active, to, dead.FirstMiss
	d.Reason = fmt.Sprintf("%s is down: %d observers say so (%s)", active, dead.Down, dead.Detail)
}

// replace moves away from a member that was taken out of the group.
func (v View) replace(d *Decision) {
	if to := v.standby(v.Assignment.Active); to != "" {
		d.Kind, d.From, d.To = api.JobPlanned, v.Assignment.Active, to
		d.Reason = v.Assignment.Active + " is no longer a member"
	}
}

// damped gives how long the next automatic move must wait.
func (v View) damped() time.Duration {
	rule := v.Group.Spec.Failover.Damping
	moves := v.Assignment.AutomaticMoves
	if rule.Moves <= 0 || rule.Hold == nil || len(moves) < rule.Moves {
		return 0
	}
	recent := moves[len(moves)-rule.Moves:]
	since := v.Now.Sub(recent[len(recent)-1])
	if v.Now.Sub(recent[0]) > rule.Window.D() || since < -rule.Window.D() { // or the clock of who moved it is, or was, wrong
		return 0
	}
	return max(0, rule.Hold.D()-since)
}

func (v View) failback(d *Decision) {
	first := v.Group.Spec.Members[0].Name
	up := v.verdict(first)
	if up.Health != api.Up || v.moving() || v.Group.Spec.Failback.Hold == nil {
		return
	}
	if left := v.Group.Spec.Failback.Hold.D() - v.Now.Sub(up.Since); left > 0 {
		d.Again = left
		return
	}
	d.Kind, d.From, d.To = api.JobFailback, v.Assignment.Active, first
	d.Reason = fmt.Sprintf("%s has been up for %v", first, v.Group.Spec.Failback.Hold)
}

// repair brings back what drifted, when no job holds the claims.
func (v View) repair(d *Decision) {
	a := v.Assignment
	if a == nil || v.moving() || v.Job == nil || v.Job.Status.Phase == api.Cancelled {
		return
	}
	if len(v.Astray) == 0 && v.Job.Status.Phase != api.Blocked {
		return
	}
	if left := v.RetryAt.Sub(v.Now); left > 0 {
		if d.Again == 0 || left < d.Again {
			d.Again = left
		}
		return
	}
	if v.verdict(a.Active).Health == api.Down {
		return // it would be a move onto a dead member
	}
	d.Kind, d.From, d.To = api.JobRepair, "", a.Active
	d.Reason = "drift: " + describe(v.Astray, v.Job)
}

func describe(astray []string, j *api.Job) string {
	if len(astray) == 0 {
		return "job " + j.Metadata.Name + " was blocked: " + j.Status.Message
	}
	if len(astray) > 3 {
		return fmt.Sprintf("%v and %d more", astray[:3], len(astray)-3)
	}
	return fmt.Sprint(astray)
}
