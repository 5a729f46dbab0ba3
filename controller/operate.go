package controller

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/recovery"
	"github.com/understudy-ha/understudy/store"
)

// A step that operates another subject leaves a request beside it, like a person would, and waits for the job that answers
// it. The request's id was made with the plan: a successor finds by it what its predecessor has asked for.

// operate asks, once, and looks how far the other subject is.
func (c *Core) operate(d driven, j *api.Job, r *run) {
	w := r.step.Operate
	target := c.subject(w.Subject)
	if target == nil || target.base().specRev == 0 {
		c.finish(d, r, job.Result{Err: fmt.Errorf("%s is not there", w.Subject), Permanent: true})
		return
	}
	t := target.base()
	if answer := c.answerTo(t, w.ID); answer != nil {
		c.followOther(d, r, t, answer)
		return
	}
	if why, refused := c.refusals[w.ID]; refused {
		c.finish(d, r, job.Result{Err: errors.New(why), Permanent: true})
		return
	}
	if done := c.already(t, w); done != "" {
		c.finish(d, r, job.Result{Outcome: done})
		return
	}
	switch busy := c.job(t); {
	case t.request != nil && t.request.ID == w.ID:
		r.lacks = w.Subject.String() + " has not taken the request"
	case t.request != nil:
		r.lacks = w.Subject.String() + " has another request to deal with first"
	case busy != nil && busy.Status.Phase == api.Running && w.Subject.Kind == api.KindProtectedMachine && busy.Spec.Kind != api.JobRepair && !cancels(w):
		r.lacks = w.Subject.String() + " has job " + busy.Metadata.Name + " to finish first"
	case !r.asking:
		r.asking = true
		c.ask(d, j, r, t)
	}
}

// cancels tells whether the operation may interrupt a job.
func cancels(w *api.OperateStep) bool {
	return w.Operation != nil && w.Operation.Operation == api.OpCancelFailover
}

// ask leaves the request.
func (c *Core) ask(d driven, j *api.Job, r *run, t *subject) {
	w := r.step.Operate
	q := api.Request{Kind: api.RequestFailover, To: w.To, By: "job " + j.Metadata.Name, At: c.now.Wall, ID: w.ID}
	if w.Operation != nil {
		q.Kind, q.Operation = api.RequestOperate, w.Operation
	}
	if j.Spec.RequestedBy != "" {
		q.By = j.Spec.RequestedBy + ", " + q.By
	}
	conds := c.guard(store.Cond{Key: api.ObjectKey(t.ref), Rev: t.specRev}, store.Cond{Key: api.RequestKey(t.ref)})
	doc := encode(q)
	c.transact(conds, []store.Op{{Key: api.RequestKey(t.ref), Value: doc}}, func(done TxnDone) {
		r.asking = false
		d.base().dirty = true
		if done.Err != nil {
			c.unsure(done.Err)
			return
		}
		key := api.RequestKey(t.ref)
		c.own[key] = done.Revs[0]
		c.learn(store.Entry{Key: key, Value: doc, Rev: done.Revs[0]})
	})
}

// answerTo finds the job that answers a request; nil if there is none.
func (c *Core) answerTo(t *subject, id string) *api.Job {
	if j := c.job(t); j != nil && j.Spec.RequestID == id {
		return j
	}
	for ref, e := range c.jobs {
		if ref.Tenant == t.ref.Tenant && bytes.Contains(e.stored, []byte(id)) {
			if j := c.jobAt(ref); j != nil && j.Spec.RequestID == id && j.Spec.Subject == t.ref {
				return j
			}
		}
	}
	return nil
}

// followOther waits for the job that answers, and for repairs that finish what it could not.
func (c *Core) followOther(d driven, r *run, t *subject, j *api.Job) {
	latest := c.job(t)
	if j.Status.Phase == api.Blocked && latest != nil && latest.Spec.Generation == j.Spec.Generation {
		j = latest
	}
	if j.Status.Phase == api.Blocked && latest != nil && latest.Spec.Generation > j.Spec.Generation {
		c.overtaken(d, r, t, j, latest)
		return
	}
	switch j.Status.Phase {
	case api.Succeeded:
		c.finish(d, r, job.Result{Outcome: "job " + j.Metadata.Name + " succeeded"})
	case api.Superseded, api.Cancelled:
		c.finish(d, r, job.Result{Err: fmt.Errorf("job %s is %s: %s", j.Metadata.Name, j.Status.Phase, j.Status.Message), Permanent: true})
	case api.Blocked:
		if j.Spec.Kind == api.JobKind(api.OpTestFailover) { // not tried again by itself
			c.finish(d, r, job.Result{Err: fmt.Errorf("job %s is Blocked: %s", j.Metadata.Name, j.Status.Message), Permanent: true})
			return
		}
		r.lacks = fmt.Sprintf("job %s is Blocked: %s", j.Metadata.Name, j.Status.Message)
	default:
		r.lacks = "job " + j.Metadata.Name + " is running"
	}
}

// overtaken ends a wait for a job that nobody tries again: something else was asked of its subject since.
func (c *Core) overtaken(d driven, r *run, t *subject, j, latest *api.Job) {
	done := c.already(t, r.step.Operate)
	switch {
	case latest.Status.Phase == api.Running:
		r.lacks = "job " + latest.Metadata.Name + " is running"
	case done != "":
		c.finish(d, r, job.Result{Outcome: done})
	default:
		c.finish(d, r, job.Result{Err: fmt.Errorf("job %s was Blocked: %s; %s was asked for since", j.Metadata.Name, j.Status.Message, latest.Spec.Kind), Permanent: true})
	}
}

// already says that a subject is where the step would bring it; "" if it is not, or is on its way.
func (c *Core) already(t *subject, w *api.OperateStep) string {
	busy := c.job(t)
	if t.assign == nil || busy != nil && busy.Status.Phase != api.Succeeded {
		return ""
	}
	switch {
	case w.Operation != nil && recovery.Already(t.assign.Machine, w.Operation.Operation):
		return w.Subject.Name + " is there already"
	case w.Operation == nil && t.assign.Active == w.To:
		return w.To + " is active already"
	}
	return ""
}

// noteRefusal keeps why a request was refused for the step that waits for it, and has its subject look.
func (c *Core) noteRefusal(q *api.Request, why string) {
	for _, d := range c.order {
		for _, r := range d.base().runs {
			if r.request && r.step.Operate.ID == q.ID {
				c.refusals[q.ID] = why
				d.base().dirty = true
			}
		}
	}
}
