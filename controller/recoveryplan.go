package controller

import (
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/recovery"
	"github.com/understudy-ha/understudy/store"
)

// recoveryPlan is what a controller knows of one recovery plan.
type recoveryPlan struct {
	subject
	spec *api.RecoveryPlan // nil: deleted, or not seen yet
	core *Core
}

func newRecoveryPlan(c *Core, ref api.Ref) *recoveryPlan {
	return &recoveryPlan{subject: newSubject(ref, "p", api.PlanVersionMachines), core: c}
}

func (p *recoveryPlan) learn(value []byte, rev store.Rev) {
	if s := parse[api.RecoveryPlan](value); s != nil && rev >= p.specRev {
		s.Default()
		p.spec, p.specRev, p.dirty = s, rev, true
	}
}

func (p *recoveryPlan) forget()                           { p.spec = nil }
func (p *recoveryPlan) reassigned()                       {}
func (p *recoveryPlan) abandon()                          { p.letGo() }
func (p *recoveryPlan) concerns(string) bool              { return false }
func (p *recoveryPlan) sections(s api.Step) []api.Section { return s.Node.Sections }
func (p *recoveryPlan) execute(*Core, *Execute)           {}
func (p *recoveryPlan) bind(*api.Job) *api.Assignment     { return nil }
func (p *recoveryPlan) renews(*Core, *agent) []string     { return nil }

func (p *recoveryPlan) view() recovery.PlanView {
	v := recovery.PlanView{Plan: p.spec, Assignment: p.assign, Job: p.core.job(&p.subject), Request: p.request, Machines: map[string]recovery.View{},
		Generation: p.generation("")}
	for _, g := range p.spec.Spec.Groups {
		for _, it := range g.Items {
			ref := api.Ref{Kind: api.KindProtectedMachine, Tenant: p.ref.Tenant, Name: it.Machine}
			if m, ok := p.core.subjects[ref].(*machine); ok && m.spec != nil {
				v.Machines[it.Machine] = m.view()
			}
		}
	}
	return v
}

// drive does what the plan is asked, and takes the next step.
func (p *recoveryPlan) drive(c *Core) {
	if p.spec == nil || p.writing {
		return
	}
	d := recovery.DecidePlan(p.view())
	d.Status.Conditions = p.status.stamp(d.Status.Conditions, c.now.Wall)
	c.writeStatus(&p.subject, encode(d.Status))
	switch {
	case c.stopping:
		c.advance(p)
	case d.Refused != "":
		c.refuse(p, d.Refused)
	case d.CancelJob:
		c.cancel(p)
	case d.Complete != nil:
		c.complete(p, d.Complete)
	case d.Kind != "":
		next := api.Assignment{SpecGeneration: p.spec.Metadata.Generation, Plan: d.Next}
		c.resolve(p, intent{next: next, kind: d.Kind, steps: d.Steps, reason: d.Reason, answered: d.Answered})
	default:
		c.advance(p)
	}
}

// complete ends a manual step: a person did it, or could not. The request goes in the transaction that stores the outcome.
func (c *Core) complete(d driven, q *api.StepCompletion) {
	s := d.base()
	st := job.Find(c.job(s), q.Step)
	if st == nil || st.Kind != api.StepManual || st.State != api.StepIntended {
		c.refuse(d, fmt.Sprintf("step %q of job %s does not wait for a person", q.Step, s.assign.Job))
		return
	}
	if !s.hasResult(q.Step) {
		delete(s.runs, q.Step)
		r := job.Result{Step: q.Step, Outcome: "done by " + s.request.By, At: c.now.Wall}
		if q.Note != "" {
			r.Outcome += ": " + q.Note
		}
		if q.Failed {
			r.Err, r.Permanent = errors.New("not "+r.Outcome), true
		}
		s.results = append(s.results, r)
	}
	c.advanceWith(d, true)
}
