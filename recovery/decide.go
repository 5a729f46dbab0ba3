package recovery

import (
	"fmt"

	"github.com/understudy-ha/understudy/api"
)

// Decision is what to do about a machine now. With Kind "" nothing new begins.
type Decision struct {
	Kind   api.JobKind
	Next   *api.MachineAssignment
	Steps  []api.Step
	Reason string
	// Wanted is the digest of what every node will have been told when the job has succeeded; "" if a repair must follow it.
	Wanted string
	// Answered tells that the request is dealt with; Refused says why it is not done.
	Answered bool
	Refused  string
	// CancelJob asks the running job to stop at its next boundary; Complete ends a manual step.
	CancelJob bool
	// Status as it should be shown; its assignment is left out, and the Since of conditions.
	Status api.MachineStatus
	// Again is when to decide anew even if nothing happens; 0: no need.
	Again api.Duration
}

// Decide decides. The rules, first match wins: an operator's request; a machine that is not set up yet; the world, or what is
// wanted of it, is not what the job was planned for. Machines are never moved without being asked.
func Decide(v View) Decision {
	d := Decision{}
	missing := v.missing()
	switch {
	case v.Request != nil:
		v.answer(&d, missing)
	case missing != "" || v.Machine.Spec.Paused:
	case v.machine() == nil:
		d.begin(v, api.JobEstablish, nil, v.first(), "protection begins")
	default:
		v.repair(&d)
	}
	d.Status = v.status(missing)
	return d
}

func (d *Decision) begin(v View, kind api.JobKind, o *api.Operation, next *api.MachineAssignment, reason string) {
	d.Kind, d.Next, d.Reason = kind, next, reason
	d.Steps = v.Plan(o, next)
	if o == nil || !aside[o.Operation] || v.settled() {
		d.Wanted = v.Digest(next)
	}
}

// aside are the operations whose jobs do not tell every node everything.
var aside = map[api.OperationKind]bool{api.OpTestFailover: true, api.OpTestFailoverCleanup: true, api.OpCommit: true, api.OpShutdown: true}

// settled tells whether nodes have been told all that is wanted of them.
func (v View) settled() bool {
	return v.Assignment != nil && v.Assignment.Wanted == v.Digest(v.machine()) && (v.Job == nil || v.Job.Status.Phase == api.Succeeded)
}

// answer deals with an operator's request.
func (v View) answer(d *Decision, missing string) {
	r := v.Request
	d.Answered = true
	running := v.Job != nil && v.Job.Status.Phase == api.Running
	switch {
	case r.Kind == api.RequestCancel && (!running || v.Job.Metadata.Name != r.To):
		d.Refused = fmt.Sprintf("job %s is not running", r.To)
	case r.Kind == api.RequestCancel:
		d.CancelJob = true
	case missing != "":
		d.Refused = missing + " is not there"
	case r.Kind == api.RequestRetry:
		v.retry(d)
	case r.Kind == api.RequestOperate && r.Operation != nil:
		if d.Refused = Refuse(v.State(), r.Operation.Operation); d.Refused == "" {
			d.begin(v, api.JobKind(r.Operation.Operation), r.Operation, v.next(r.Operation), "asked for by "+r.By)
		}
	default:
		d.Refused = fmt.Sprintf("request kind %q: want Operate, Cancel or Retry", r.Kind)
	}
}

func (v View) retry(d *Decision) {
	switch {
	case v.machine() == nil || v.Job == nil || v.Job.Metadata.Name != v.Request.To:
		d.Refused = fmt.Sprintf("job %s is not the machine's latest", v.Request.To)
	case v.Job.Status.Phase != api.Blocked && v.Job.Status.Phase != api.Cancelled:
		d.Refused = fmt.Sprintf("job %s is %s; only Blocked and Cancelled jobs are tried again", v.Request.To, v.Job.Status.Phase)
	default:
		next := *v.machine()
		d.begin(v, api.JobRepair, v.drillAgain(), &next, "retry asked for by "+v.Request.By)
	}
}

// drillAgain is the operation of a drill that was asked to be tried again: a repair leaves drills that did not pass alone.
func (v View) drillAgain() *api.Operation {
	if m := v.machine(); m.Drill != nil && !m.Drill.Passed && m.Drill.Cleanup == nil {
		return &api.Operation{Operation: api.OpTestFailover, Point: &api.PointChoice{Kind: api.PointLatestProcessed}}
	}
	return nil
}

// repair brings back what drifted, and brings out what has changed in the spec or in what it refers to, when no job runs.
func (v View) repair(d *Decision) {
	m, j := v.machine(), v.Job
	if j != nil && (j.Status.Phase == api.Running || j.Status.Phase == api.Cancelled) {
		return
	}
	why := ""
	switch {
	case j == nil && len(v.Astray) == 0: // recovered from a vault: nothing happens by itself but to nodes that are there
		return
	case v.Assignment.Wanted != v.Digest(m):
		why = "what is wanted of the nodes has changed"
	case len(v.Astray) > 0:
		why = "drift: " + v.Astray[0]
	case j != nil && j.Status.Phase == api.Blocked && j.Spec.Kind != api.JobKind(api.OpTestFailover):
		why = "job " + j.Metadata.Name + " was blocked: " + j.Status.Message
	default:
		return
	}
	if left := v.RetryAt.Sub(v.Now); left > 0 {
		d.Again = api.Duration(left)
		return
	}
	next := *m
	d.begin(v, api.JobRepair, nil, &next, why)
}
