package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

// followJob shows a job's timeline on standard error as it grows, with what its steps wait for, and gives the job when it has
// ended.
func (c *console) followJob(ctx context.Context, cl *client.Client, name string) (*api.Job, error) {
	var j *api.Job
	shown, asked := 0, map[string]bool{}
	watching, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer func() { stop(); beside.Wait() }()
	err := follow(ctx, c, cl, api.KindJob, name, func(e client.Event) error {
		first := j == nil
		switch got, ok := e.Object.(*api.Job); {
		case e.Type == "delete":
			return fmt.Errorf("job %s was removed: it is past its retention", name)
		case e.Type == "sync" && j == nil: // not there, or so new that this watch has not heard of it
			now, err := cl.Job(ctx, "", name)
			if err != nil {
				return err
			}
			j = now
		case ok:
			j = got
		default:
			return nil
		}
		for ; shown < len(j.Status.Timeline); shown++ {
			c.say("%s", timelineLine(j, j.Status.Timeline[shown]))
		}
		c.sayManual(j, asked)
		if j.Status.Phase.Ended() {
			return errEnough
		}
		if machine := j.Spec.Subject; first && machine.Kind == api.KindProtectedMachine {
			beside.Go(func() { c.followMachine(watching, cl, machine.Name) })
		}
		return nil
	})
	return j, err
}

// sayManual tells, once each, of steps that wait for a person.
func (c *console) sayManual(j *api.Job, asked map[string]bool) {
	for _, s := range j.Status.Steps {
		if s.Manual == nil || s.State != api.StepIntended || asked[s.ID] || j.Status.Phase.Ended() {
			continue
		}
		asked[s.ID] = true
		c.say("Step %s waits for a person: %s\nThen: understudy jobs complete %s %s", s.ID, s.Manual.Instructions, j.Metadata.Name, s.ID)
	}
}

// followMachine tells how far a machine's engines are, when that changes, until ctx ends. It is a courtesy: what cannot be seen is
// left out.
func (c *console) followMachine(ctx context.Context, cl *client.Client, name string) {
	said := ""
	_ = cl.Watch(ctx, api.KindProtectedMachine, "", name, func(e client.Event) error {
		m, ok := e.Object.(*api.ProtectedMachine)
		if !ok || e.Type != "put" {
			return nil
		}
		if words := progressWords(m); words != "" && words != said {
			said = words
			c.say("  … %s", words)
		}
		return nil
	})
}

// progressWords says how far a machine's engines are.
func progressWords(m *api.ProtectedMachine) string {
	s := &m.Status
	switch {
	case s.Test != nil && s.TestFailoverState != api.TestWaitingForCleanup:
		return "drill: " + runWords(s.Test)
	case s.Run != nil && s.ProtectionState == api.FailoverInProgress:
		return runWords(s.Run)
	case s.Replication != nil:
		return "replication: " + s.Replication.Phase + percent(s.Replication.Progress)
	case s.Run != nil:
		return runWords(s.Run)
	}
	return ""
}

func runWords(r *api.RunStatus) string {
	words := r.Instance + " at " + r.Node
	if r.Point != nil {
		words += " from point " + r.Point.ID
	}
	if r.Phase == "" {
		return words
	}
	return words + ": " + r.Phase + percent(r.Progress)
}

// percent is how far something is, in steps of ten so that people are not told of each one.
func percent(p float64) string {
	if p <= 0 || p >= 100 {
		return ""
	}
	return fmt.Sprintf(", %d %%", int(p/10)*10)
}
