package server

import (
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/store"
)

// postOperation leaves what an operator asks of a machine or a recovery plan. What its state forbids, as far as that is
// shown, is refused at once; the leader judges again by what it knows.
func (s *Server) postOperation(c *call) error {
	var q api.Operation
	if err := c.decode(&q); err != nil {
		return err
	}
	c.object = c.ref().String()
	known := api.Operations()
	if c.kind.Kind == api.KindRecoveryPlan {
		known = api.PlanOperations()
	}
	if err := api.CheckOperation(&q, known); err != nil {
		return err
	}
	if c.kind.Kind == api.KindRecoveryPlan && q.Point != nil && q.Point.ID != "" {
		return invalid("point.id", fmt.Sprintf("%q", q.Point.ID), "a time (at), or another kind: an id is a point of one machine")
	}
	o, rev, err := s.allowed(c, q.Operation)
	if err != nil {
		return err
	}
	if err := s.hasPoint(c.r.Context(), o, &q); err != nil {
		return err
	}
	c.detail = string(q.Operation)
	if q.Notes != "" {
		c.detail += ": " + q.Notes
	}
	return s.request(c, store.Cond{Key: api.ObjectKey(c.ref()), Rev: rev}, api.Request{Kind: api.RequestOperate, Operation: &q})
}

// allowed refuses an operation that the state forbids, and gives the resource with its revision. A status is written at most
// once a second: what it forbids may be allowed by what is decided since, and one that still shows a job which has ended is waited for.
func (s *Server) allowed(c *call, op api.OperationKind) (api.Object, store.Rev, error) {
	for deadline := s.now().Add(requestWait); ; {
		o, rev, err := s.resources.get(c.r.Context(), c.ref())
		if err != nil {
			return nil, 0, err
		}
		why, stale := forbidden(o, op), false
		if why == "" {
			return o, rev, nil
		}
		if _, refused, err := s.foresee(c.r.Context(), o, &api.Operation{Operation: op}); err != nil || refused == "" {
			return o, rev, err
		}
		if name := scenario(o); name != "" {
			j, _, err := s.resources.get(c.r.Context(), api.Ref{Kind: api.KindJob, Tenant: c.tenant, Name: name})
			stale = err == nil && j.(*api.Job).Status.Phase.Ended()
		}
		if !stale || s.now().After(deadline) {
			return nil, 0, api.Errorf(api.CodeConflict, "%s: %s", c.ref(), why)
		}
		if err := sleep(c.r.Context(), 100*time.Millisecond); err != nil {
			return nil, 0, err
		}
	}
}

// scenario names the job that a status shows as running.
func scenario(o api.Object) string {
	var job *api.Scenario
	switch o := o.(type) {
	case *api.ProtectedMachine:
		job = o.Status.CurrentScenario
	case *api.RecoveryPlan:
		job = o.Status.CurrentScenario
	}
	if job == nil {
		return ""
	}
	return job.Job
}

// forbidden says why the state that is shown does not allow an operation; "" if it does.
func forbidden(o api.Object, op api.OperationKind) string {
	var allowed []api.OperationKind
	var job *api.Scenario
	switch o := o.(type) {
	case *api.ProtectedMachine:
		allowed, job = o.Status.AllowedOperations, o.Status.CurrentScenario
	case *api.RecoveryPlan:
		allowed, job = o.Status.AllowedOperations, o.Status.CurrentScenario
	}
	for _, a := range allowed {
		if a == op {
			return ""
		}
	}
	why := fmt.Sprintf("%s is not allowed now", op)
	if job != nil {
		why += fmt.Sprintf(": job %s (%s) is running", job.Job, job.Name)
	}
	if len(allowed) == 0 {
		return why + "; nothing else is either"
	}
	why += "; allowed are"
	for i, a := range allowed {
		if i > 0 {
			why += ","
		}
		why += " " + string(a)
	}
	return why
}

// postComplete tells a job that a person did what its manual step waits for.
func (s *Server) postComplete(c *call) error {
	var q api.StepCompletion
	if err := c.decode(&q); err != nil {
		return err
	}
	o, _, err := s.resources.get(c.r.Context(), api.Ref{Kind: api.KindJob, Tenant: c.tenant, Name: c.name})
	if err != nil {
		return err
	}
	j := o.(*api.Job)
	if len(q.Note) > 4096 {
		return invalid("note", fmt.Sprintf("%d bytes", len(q.Note)), "at most 4096")
	}
	waiting := ""
	for _, st := range j.Status.Steps {
		if st.Kind != api.StepManual || st.State != api.StepIntended {
			continue
		}
		if waiting += " " + st.ID; st.ID == q.Step {
			waiting = ""
			break
		}
	}
	if j.Status.Phase.Ended() {
		return api.Errorf(api.CodeConflict, "job %s has ended: %s", c.name, j.Status.Phase)
	}
	if waiting != "" || !hasStep(j, q.Step) {
		return invalid("step", fmt.Sprintf("%q", q.Step), "a manual step that waits; there are:"+waiting)
	}
	job := c.name
	c.kind, _ = api.LookupKind(string(j.Spec.Subject.Kind))
	c.name, c.detail = j.Spec.Subject.Name, "job "+job+", step "+q.Step+": "+q.Note
	_, rev, err := s.resources.get(c.r.Context(), c.ref())
	if err != nil {
		return err
	}
	return s.request(c, store.Cond{Key: api.ObjectKey(c.ref()), Rev: rev}, api.Request{Kind: api.RequestComplete, To: job, Completion: &q})
}

func hasStep(j *api.Job, id string) bool {
	for _, s := range j.Status.Steps {
		if s.ID == id && s.Kind == api.StepManual && s.State == api.StepIntended {
			return true
		}
	}
	return false
}
