package recovery

import (
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// itemWait is how long an item of a plan may take: initial copies of a reprotect, say, are not waited for.
const itemWait = 24 * time.Hour

// PlanView is everything a decision about one recovery plan may look at.
type PlanView struct {
	Plan       *api.RecoveryPlan
	Assignment *api.Assignment
	Job        *api.Job
	Request    *api.Request
	// Machines of the plan by name; those that are not there are left out.
	Machines map[string]View
	// Generation that the next assignment would have.
	Generation int64
}

// PlanDecision is what to do about a plan now. With Kind "" nothing new begins.
type PlanDecision struct {
	Kind     api.JobKind
	Next     *api.PlanAssignment
	Steps    []api.Step
	Reason   string
	Answered bool
	Refused  string
	// CancelJob asks the running job to stop at its next boundary; Complete ends a manual step of it.
	CancelJob bool
	Complete  *api.StepCompletion
	Status    api.RecoveryPlanStatus
}

// DecidePlan decides: a plan does what it is asked, and nothing else.
func DecidePlan(v PlanView) PlanDecision {
	d := PlanDecision{Status: v.status()}
	if v.Request != nil {
		d.Answered = true
		v.answer(&d)
	}
	return d
}

func (v PlanView) running() bool { return v.Job != nil && v.Job.Status.Phase == api.Running }

func (v PlanView) answer(d *PlanDecision) {
	r := v.Request
	ours := v.Job != nil && v.Job.Metadata.Name == r.To
	switch r.Kind {
	case api.RequestCancel, api.RequestComplete:
		if !v.running() || !ours {
			d.Refused = fmt.Sprintf("job %s is not running", r.To)
			return
		}
		d.CancelJob = r.Kind == api.RequestCancel
		d.Complete = r.Completion
	case api.RequestRetry:
		switch {
		case !ours || v.Assignment == nil || v.Assignment.Plan == nil:
			d.Refused = fmt.Sprintf("job %s is not the plan's latest", r.To)
		case v.Job.Status.Phase != api.Blocked && v.Job.Status.Phase != api.Cancelled:
			d.Refused = fmt.Sprintf("job %s is %s; only Blocked and Cancelled jobs are tried again", r.To, v.Job.Status.Phase)
		default:
			v.begin(d, &v.Assignment.Plan.Operation, v.done())
		}
	case api.RequestOperate:
		if d.Refused = v.refuse(r.Operation); d.Refused == "" {
			v.begin(d, r.Operation, nil)
		}
	default:
		d.Refused = fmt.Sprintf("request kind %q: want Operate, Complete, Cancel or Retry", r.Kind)
	}
}

func (v PlanView) begin(d *PlanDecision, o *api.Operation, done []string) {
	d.Kind, d.Reason = api.JobKind(o.Operation), "asked for by "+v.Request.By
	d.Next = &api.PlanAssignment{Operation: *o, Direction: api.DirectionOf(o.Operation), Done: done}
	d.Steps = without(v.Steps(o), done)
}

// done lists what the latest job, and those that it tried again, have done.
func (v PlanView) done() []string {
	done := slices.Clone(v.Assignment.Plan.Done)
	for _, s := range v.Job.Status.Steps {
		if s.State == api.StepDone {
			done = append(done, s.ID)
		}
	}
	return done
}

// without leaves out what is done.
func without(steps []api.Step, done []string) []api.Step {
	var out []api.Step
	for _, s := range steps {
		if !slices.Contains(done, s.ID) {
			s.Needs = slices.DeleteFunc(slices.Clone(s.Needs), func(id string) bool { return slices.Contains(done, id) })
			out = append(out, s)
		}
	}
	return out
}

// allowed lists what at least one machine of the plan allows.
func (v PlanView) allowed() []api.OperationKind {
	out := []api.OperationKind{}
	if v.running() {
		return out
	}
	for _, op := range api.PlanOperations() {
		for _, m := range v.Machines {
			if slices.Contains(Allowed(m.State()), op) {
				out = append(out, op)
				break
			}
		}
	}
	return out
}

func (v PlanView) refuse(o *api.Operation) string {
	switch allowed := v.allowed(); {
	case o == nil:
		return "the request names no operation"
	case v.running():
		return fmt.Sprintf("%s is not allowed: job %s is running", o.Operation, v.Job.Metadata.Name)
	case !slices.Contains(allowed, o.Operation) && len(allowed) == 0:
		return fmt.Sprintf("%s is not allowed: none of the plan's machines allows anything now", o.Operation)
	case !slices.Contains(allowed, o.Operation):
		return fmt.Sprintf("%s is not allowed: none of the plan's machines allows it; allowed now: %s", o.Operation, list(allowed))
	}
	return ""
}

// Steps of an operation: group after group, the items of a group at once, its actions around them in their order.
func (v PlanView) Steps(o *api.Operation) []api.Step {
	var steps []api.Step
	var after []string // what the next group waits for
	add := func(s api.Step, needs []string) []string {
		s.Needs = slices.Clone(needs)
		steps = append(steps, s)
		return []string{s.ID}
	}
	for i := range v.Plan.Spec.Groups {
		g := &v.Plan.Spec.Groups[i]
		if g.Type == api.GroupShutdown && !o.ShutdownSource {
			continue
		}
		for _, a := range g.Before {
			if applies(a, o) {
				after = add(actionStep(g, "before", a), after)
			}
		}
		var items []string
		for _, it := range g.Items {
			if s, ok := v.item(g, it, o); ok {
				items = append(items, add(s, after)...)
			}
		}
		if len(items) > 0 {
			after = items
		}
		for _, a := range g.After {
			if applies(a, o) {
				after = add(actionStep(g, "after", a), after)
			}
		}
	}
	return steps
}

// applies tells whether an action belongs to an operation.
func applies(a api.PlanAction, o *api.Operation) bool {
	return (len(a.Operations) == 0 || slices.Contains(a.Operations, o.Operation)) &&
		(len(a.Directions) == 0 || slices.Contains(a.Directions, api.DirectionOf(o.Operation)))
}

func actionStep(g *api.PlanGroup, when string, a api.PlanAction) api.Step {
	s := api.Step{ID: when + ":" + g.Name + ":" + a.Name, Optional: a.Optional, Expected: api.Duration(time.Second), Worst: a.Timeout, Deadline: a.Timeout}
	if a.Manual != "" {
		s.Kind, s.Manual = api.StepManual, &api.ManualStep{Instructions: a.Manual}
		return s
	}
	s.Kind, s.Hook = api.StepHook, &api.HookStep{When: when, Hook: api.Hook{Name: a.Name, URL: a.Webhook, Exec: a.Script, Timeout: a.Timeout}}
	return s
}

// item gives the step of an item; ok is false if the operation has none for it.
func (v PlanView) item(g *api.PlanGroup, it api.PlanItem, o *api.Operation) (s api.Step, ok bool) {
	tenant := v.Plan.Metadata.Tenant
	s = api.Step{Kind: api.StepOperate, Expected: api.Duration(30 * time.Second), Worst: api.Duration(time.Hour), Deadline: api.Duration(itemWait)}
	w := &api.OperateStep{}
	s.Operate = w
	if it.ApplianceGroup != "" {
		w.Subject, w.To = api.Ref{Kind: api.KindApplianceGroup, Tenant: tenant, Name: it.ApplianceGroup}, ""
		switch o.Operation {
		case api.OpFailover:
			w.To = it.To
		case api.OpFailback:
			w.To = it.Back
		case api.OpCancelFailover:
			if w.To = it.Back; v.comingHome() {
				w.To = it.To
			}
		}
		s.ID = g.Name + ":group:" + it.ApplianceGroup
		w.ID = v.requestID(s.ID)
		return s, w.To != ""
	}
	w.Subject = api.Ref{Kind: api.KindProtectedMachine, Tenant: tenant, Name: it.Machine}
	s.ID = g.Name + ":" + it.Machine
	w.ID = v.requestID(s.ID)
	op := *o
	if g.Type == api.GroupShutdown {
		if m, known := v.Machines[it.Machine]; known && m.machine() != nil && !m.connected(m.node(m.machine().Location)) {
			return s, false // nobody is there to shut it down; it is told at first contact
		}
		op = api.Operation{Operation: api.OpShutdown}
		s.Optional, s.Deadline = true, api.Duration(5*time.Minute)
	}
	w.Operation = &op
	return s, true
}

// comingHome tells whether what would be taken back is a failback.
func (v PlanView) comingHome() bool {
	for _, m := range v.Machines {
		if a := m.machine(); a != nil && a.Stage == api.StagePending && a.Location == api.Primary {
			return true
		}
	}
	return false
}

// requestID is the same whoever plans it.
func (v PlanView) requestID(step string) string {
	return fmt.Sprintf("%s/%s/%d/%s", v.Plan.Metadata.Tenant, v.Plan.Metadata.Name, v.Generation, step)
}

func (v PlanView) status() api.RecoveryPlanStatus {
	s := api.RecoveryPlanStatus{AllowedOperations: v.allowed()}
	seen := map[string]bool{}
	for _, g := range v.Plan.Spec.Groups {
		for _, it := range g.Items {
			if it.Machine == "" || seen[it.Machine] {
				continue
			}
			seen[it.Machine] = true
			pm := api.PlanMachine{Name: it.Machine}
			if m, ok := v.Machines[it.Machine]; !ok {
				s.Conditions = append(s.Conditions, api.Condition{Code: "ReferenceMissing", Severity: api.Critical, Impacts: "the plan stops there",
					Message: it.Machine + ": there is no machine of that name"})
			} else if a := m.machine(); a != nil {
				pm.ProtectionState, pm.ActiveLocation = m.protection(a, m.active(a)), a.Location
			}
			s.Machines = append(s.Machines, pm)
		}
	}
	if j := v.Job; j != nil {
		v.jobStatus(&s, j)
	}
	return s
}

func (v PlanView) jobStatus(s *api.RecoveryPlanStatus, j *api.Job) {
	note := func(code string, sev api.Severity, impacts, format string, args ...any) {
		s.Conditions = append(s.Conditions, api.Condition{Code: code, Severity: sev, Message: fmt.Sprintf(format, args...), Impacts: impacts})
	}
	switch j.Status.Phase {
	case api.Running:
		s.CurrentScenario = &api.Scenario{Name: string(j.Spec.Kind), Job: j.Metadata.Name, Started: j.Status.Started}
		for _, st := range j.Status.Steps {
			if st.Kind == api.StepManual && st.State == api.StepIntended {
				note("WaitingForInput", api.Warning, "the plan waits", "job %s, step %s: %s", j.Metadata.Name, st.ID, st.Manual.Instructions)
			}
		}
	case api.Blocked:
		note("JobBlocked", api.Critical, "the plan has not been carried out whole", "job %s: %s; run `understudy jobs retry`", j.Metadata.Name, j.Status.Message)
	case api.Cancelled:
		note("JobCancelled", api.Warning, "the plan has not been carried out whole", "job %s: %s; run `understudy jobs retry`", j.Metadata.Name, j.Status.Message)
	}
}
