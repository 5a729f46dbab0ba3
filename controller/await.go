package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/job"
	"github.com/understudy-ha/understudy/lead"
)

// lookAgain looks at everything that a subject's steps wait for.
func (c *Core) lookAgain(d driven) {
	s := d.base()
	for _, id := range slices.Sorted(maps.Keys(s.runs)) {
		switch r := s.runs[id]; {
		case r.awaiting:
			c.lookAt(d, r)
		case r.request:
			c.operate(d, c.job(s), r)
		}
	}
}

// lookAt ends a run whose node says that it is so far, or that it will not be.
func (c *Core) lookAt(d driven, r *run) {
	w := r.step.Await
	node := d.base().nodeName(w.Node)
	a := c.agents[node]
	if a == nil || a.gone {
		r.lacks = "no answer from " + node
		return
	}
	if w.Settled {
		if r.lacks = c.unsettled(a, w); r.lacks == "" {
			c.finish(d, r, job.Result{Outcome: w.Engine + " of " + w.Node + " is up to date"})
		}
		return
	}
	has := a.sections[lead.SectionKey(w.Engine, w.Owner)]
	why, failed := lacking(w, has, c.cfg.ClusterID)
	r.lacks = ""
	switch {
	case failed:
		c.finish(d, r, job.Result{Err: errors.New(why), Permanent: true})
	case why != "":
		r.lacks = node + ": " + w.Engine + " " + why
	default:
		c.finish(d, r, job.Result{Outcome: said(has)})
	}
}

// lacking says what a section's status lacks of what is waited for; "" if nothing. failed tells that it will not come.
func lacking(w *api.AwaitStep, has api.SectionStatus, cluster string) (why string, failed bool) {
	st := has.State
	switch {
	case has.Applied.ClusterID != cluster || has.Applied.Generation < w.Generation:
		return fmt.Sprintf("is at generation %d, want %d", has.Applied.Generation, w.Generation), false
	case has.Error != "":
		return "reports: " + has.Error, false
	case st == nil:
		return "has not said how it is", false
	case w.Instance != "" && st.Instance != "" && st.Instance != w.Instance:
		return fmt.Sprintf("still runs instance %s, want %s", st.Instance, w.Instance), false
	case slices.Contains(w.Fails, st.Phase):
		return fmt.Sprintf("%s is %s%s", w.Engine, st.Phase, because(st)), true
	case len(w.Phases) > 0 && !slices.Contains(w.Phases, st.Phase):
		return fmt.Sprintf("is %s (%.0f %%), not yet %s", st.Phase, st.Percent, w.Phases[0]), false
	case w.Done != "" && st.Done != w.Done:
		return fmt.Sprintf("has not done %s", w.Done), false
	case w.Stored && (st.LastPointSeq == 0 || st.Stored < st.LastPointSeq):
		return fmt.Sprintf("has stored %d, its newest point is %d", st.Stored, st.LastPointSeq), false
	}
	return "", false
}

// because adds what an engine complains of.
func because(st *api.EngineState) string {
	for _, c := range st.Conditions {
		if c.Severity == api.Critical {
			return ": " + c.Message
		}
	}
	return ""
}

// said sums up a state for the job's timeline.
func said(has api.SectionStatus) string {
	st := has.State
	switch {
	case st == nil:
		return "applied"
	case st.AnswersAfter > 0:
		return fmt.Sprintf("%s after %v", st.Phase, st.AnswersAfter)
	case st.LastPoint != "":
		return fmt.Sprintf("%s, point %s at %d", st.Phase, st.LastPoint, st.LastPointSeq)
	}
	return st.Phase
}
