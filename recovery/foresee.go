package recovery

import "github.com/understudy-ha/understudy/api"

// Foresee gives what an operation would do now, step by step; refused says why it is not allowed. Nothing begins.
func (v View) Foresee(o *api.Operation) (p api.Plan, refused string) {
	if missing := v.missing(); missing != "" {
		return p, missing + " is not there"
	}
	if refused = Refuse(v.State(), o.Operation); refused != "" {
		return p, refused
	}
	m, next := v.machine(), v.next(o)
	p = api.Plan{Group: v.Machine.Ref(), Operation: o.Operation, To: v.site(next.Location), Steps: v.Plan(o, next)}
	if next.Location != m.Location {
		p.From = v.site(m.Location)
	}
	p.Total()
	return p, ""
}

// Foresee is the same of a plan. Its items take as long as their own plans say.
func (v PlanView) Foresee(o *api.Operation) (p api.Plan, refused string) {
	if refused = v.refuse(o); refused != "" {
		return p, refused
	}
	p = api.Plan{Group: v.Plan.Ref(), Operation: o.Operation, Steps: v.Steps(o)}
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Operate == nil || s.Operate.Operation == nil {
			continue
		}
		m, ok := v.Machines[s.Operate.Subject.Name]
		if !ok {
			continue
		}
		if Already(m.machine(), s.Operate.Operation.Operation) {
			s.Expected, s.Worst = 0, 0
		} else if item, no := m.Foresee(s.Operate.Operation); no == "" {
			s.Expected, s.Worst = item.Expected, item.Worst
		}
	}
	p.Total()
	return p, ""
}
