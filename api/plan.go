package api

import "time"

// Plan is what a move would do, step by step, with its times.
type Plan struct {
	// Group is the subject: an ApplianceGroup, or a ProtectedMachine or RecoveryPlan, of which Operation is planned.
	Group     Ref           `json:"group"`
	Operation OperationKind `json:"operation,omitempty"`
	// From and To are members of a group, or sites; From is empty if nothing moves.
	From  string `json:"from,omitempty"`
	To    string `json:"to"`
	Steps []Step `json:"steps"`
	// Expected and Worst are the lengths of the longest paths through the steps.
	Expected Duration `json:"expected"`
	Worst    Duration `json:"worst"`
	// Detect is how long a dead member goes unnoticed: fall × interval + timeout.
	Detect Duration `json:"detect"`
}

// Finish gives when each step would be done at the earliest, counted from the start: steps run as soon as what they
// need is done, and steps with the same lock one after the other in their order here. take says how long a step takes.
func Finish(steps []Step, take func(Step) time.Duration) map[string]time.Duration {
	done := map[string]time.Duration{}
	locks := map[string]time.Duration{}
	left := append([]Step(nil), steps...)
	for len(left) > 0 {
		var later []Step
		for _, s := range left {
			start, ready := time.Duration(0), true
			for _, n := range s.Needs {
				t, ok := done[n]
				ready = ready && ok
				start = max(start, t)
			}
			if !ready {
				later = append(later, s)
				continue
			}
			if s.Lock != "" {
				start = max(start, locks[s.Lock])
			}
			done[s.ID] = start + take(s)
			if s.Lock != "" {
				locks[s.Lock] = done[s.ID]
			}
		}
		if len(later) == len(left) {
			return done // needs that nobody meets
		}
		left = later
	}
	return done
}

// Total fills in Expected and Worst from the steps.
func (p *Plan) Total() {
	for _, t := range Finish(p.Steps, func(s Step) time.Duration { return s.Expected.D() }) {
		p.Expected = max(p.Expected, Duration(t))
	}
	for _, t := range Finish(p.Steps, func(s Step) time.Duration { return s.Worst.D() }) {
		p.Worst = max(p.Worst, Duration(t))
	}
}
