// Package job runs durable steps as data. A job is a plan whose every step is
// stored as intended before it is done and as done after it: whoever leads next reads
// the document and goes on, forward, from what it says. Steps are idempotent, since
// a step that was intended may have happened.
//
//	Pending ──intend, stored──► Intended ──effect──► Done     (stored with the next intents)
//	                               │  ▲
//	                               └──┘ failed attempt, tried again until its deadline ──► Failed
//
// The functions here only change a document in memory; storing it, and doing what it
// intends only after that, is the caller's part.
package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/mutant"
)

// New makes a job in phase Running, its steps Pending. A spec that names no plan version gets that of appliance groups.
func New(name string, tenant string, spec api.JobSpec, steps []api.Step, now time.Time) *api.Job {
	if spec.PlanVersion == 0 {
		spec.PlanVersion = api.PlanVersionAppliances
	}
	j := &api.Job{Spec: spec}
	j.Header = api.Header{APIVersion: api.Version, Kind: api.KindJob, Metadata: api.Metadata{Name: name, Tenant: tenant, Created: now, Generation: 1}}
	j.Status = api.JobStatus{Phase: api.Running, Steps: slices.Clone(steps), Started: now}
	for i := range j.Status.Steps {
		j.Status.Steps[i].State = api.StepPending
	}
	return j
}

// Clone copies what Intend, Record and the others change; payloads of steps are shared and never changed.
func Clone(j *api.Job) *api.Job {
	c := *j
	c.Status.Steps = slices.Clone(j.Status.Steps)
	c.Status.Epochs = slices.Clone(j.Status.Epochs)
	c.Status.Timeline = slices.Clone(j.Status.Timeline)
	return &c
}

// Note adds an entry to the timeline.
func Note(j *api.Job, epoch int64, at time.Time, what, detail string) {
	j.Status.Timeline = append(j.Status.Timeline, api.TimelineEntry{What: what, At: at, Epoch: epoch, Detail: detail})
}

// Adopt notes that a leadership works on the job now. It tells whether that is new.
func Adopt(j *api.Job, epoch int64, now time.Time) bool {
	if n := len(j.Status.Epochs); n > 0 && j.Status.Epochs[n-1] == epoch {
		return false
	}
	if len(j.Status.Epochs) > 0 {
		Note(j, epoch, now, "resumed", "")
	}
	j.Status.Epochs = append(j.Status.Epochs, epoch)
	return true
}

// Find gives the step with that id, or nil.
func Find(j *api.Job, id string) *api.Step {
	for i := range j.Status.Steps {
		if j.Status.Steps[i].ID == id {
			return &j.Status.Steps[i]
		}
	}
	return nil
}

// Intend marks every step Intended that may begin: its needs are settled and no step with its lock is under way.
// It lists them. Locks that other jobs hold are in held.
func Intend(j *api.Job, held map[string]bool, epoch int64, now time.Time) []string {
	if j.Status.Phase != api.Running || j.Status.CancelRequested {
		return nil
	}
	locked := map[string]bool{}
	for i := range j.Status.Steps {
		if s := &j.Status.Steps[i]; s.State == api.StepIntended && s.Lock != "" {
			locked[s.Lock] = true
		}
	}
	var ids []string
	for i := range j.Status.Steps {
		s := &j.Status.Steps[i]
		if s.State != api.StepPending || !settled(j, s.Needs) || s.Lock != "" && (locked[s.Lock] || held[s.Lock]) {
			continue
		}
		s.State, s.IntendedAt = api.StepIntended, now
		if mutant.On(mutant.OutcomeBeforeDone) {
			s.State, s.DoneAt = api.StepDone, now
		}
		locked[s.Lock] = s.Lock != ""
		Note(j, epoch, now, "step:"+s.ID+":intended", "")
		ids = append(ids, s.ID)
	}
	return ids
}

// settled tells whether every needed step is over in a way that lets its dependants begin.
func settled(j *api.Job, needs []string) bool {
	for _, id := range needs {
		n := Find(j, id)
		if n == nil || n.State != api.StepDone && !(n.Optional && n.State == api.StepFailed) {
			return false
		}
	}
	return true
}

// Result of one attempt at a step.
type Result struct {
	Step    string
	Outcome string
	Err     error
	// Permanent tells that trying again will not help.
	Permanent bool
	// Overdue tells that the step's deadline has passed.
	Overdue bool
	// Point that a choose step found.
	Point *api.RecoveryPoint
	At    time.Time
}

// Record writes a result into the document. It tells whether the step's state changed; results of steps that
// are not Intended are old news and change nothing.
func Record(j *api.Job, r Result, epoch int64) bool {
	s := Find(j, r.Step)
	if s == nil || s.State != api.StepIntended {
		return false
	}
	s.Attempts++
	if r.Err == nil {
		s.State, s.DoneAt, s.Outcome, s.Error, s.Point = api.StepDone, r.At, r.Outcome, "", r.Point
		Note(j, epoch, r.At, "step:"+s.ID+":done", r.Outcome)
		return true
	}
	s.Error, s.NotBefore = r.Err.Error(), r.At.Add(backoff(s.Attempts))
	if !r.Permanent && !r.Overdue {
		return false
	}
	s.State, s.DoneAt = api.StepFailed, r.At
	Note(j, epoch, r.At, "step:"+s.ID+":failed", s.Error)
	return true
}

// backoff after that many failed attempts: 0.2 s doubling to 10 s.
func backoff(attempts int) time.Duration {
	return min(200*time.Millisecond<<min(attempts-1, 10), 10*time.Second)
}

// Backoff is how long to wait after that many failed attempts at a step.
func Backoff(attempts int) time.Duration { return backoff(max(attempts, 1)) }

// Settle ends the job if nothing is left to do, given the steps that are under way. It tells whether it ended.
func Settle(j *api.Job, underWay func(step string) bool, epoch int64, now time.Time) bool {
	if j.Status.Phase != api.Running {
		return false
	}
	var failed []string
	open, waiting := false, false
	for i := range j.Status.Steps {
		switch s := &j.Status.Steps[i]; s.State {
		case api.StepIntended:
			open = open || underWay(s.ID) || !j.Status.CancelRequested
		case api.StepPending:
			waiting = true
		case api.StepFailed:
			if !s.Optional {
				failed = append(failed, s.ID+": "+s.Error)
			}
		}
	}
	switch {
	case open:
		return false
	case j.Status.CancelRequested:
		end(j, api.Cancelled, holds(j), epoch, now)
	case len(failed) > 0:
		end(j, api.Blocked, strings.Join(failed, "; "), epoch, now)
	case waiting:
		return false
	default:
		Note(j, epoch, now, "verified", "")
		end(j, api.Succeeded, "", epoch, now)
	}
	return true
}

// Supersede ends a running job because a newer assignment takes over.
func Supersede(j *api.Job, by string, epoch int64, now time.Time) {
	end(j, api.Superseded, fmt.Sprintf("superseded by %s; %s", by, holds(j)), epoch, now)
}

// end closes the document: steps that were not done are Skipped.
func end(j *api.Job, p api.Phase, message string, epoch int64, now time.Time) {
	for i := range j.Status.Steps {
		if s := &j.Status.Steps[i]; s.State == api.StepPending || s.State == api.StepIntended {
			s.State = api.StepSkipped
		}
	}
	j.Status.Phase, j.Status.Message, j.Status.Ended = p, message, now
	Note(j, epoch, now, "ended", string(p))
}

// holds says what a job that stops early leaves behind.
func holds(j *api.Job) string {
	var done, maybe, not []string
	for i := range j.Status.Steps {
		switch s := &j.Status.Steps[i]; s.State {
		case api.StepDone:
			done = append(done, s.ID)
		case api.StepIntended:
			maybe = append(maybe, s.ID)
		default:
			not = append(not, s.ID)
		}
	}
	say := func(ids []string) string {
		if len(ids) == 0 {
			return "none"
		}
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("done: %s; may have happened: %s; not done: %s", say(done), say(maybe), say(not))
}
