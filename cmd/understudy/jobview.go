package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// printJob shows a job as people read it.
func (c *console) printJob(j *api.Job) {
	now := time.Now()
	where := ""
	if to := jobMove(j); to != "-" {
		where = ", " + to
	}
	c.print("%s  %s of %s%s", c.shade(styleBold, "Job "+j.Metadata.Name), j.Spec.Kind, shortRef(j.Spec.Subject), where)
	f := c.fields(13)
	f("Phase", c.shadeCell(0, string(j.Status.Phase))+" ("+jobTook(now, j)+")")
	f("Message", j.Status.Message)
	f("Reason", j.Spec.Reason)
	f("Requested by", j.Spec.RequestedBy)
	f("Generation", fmt.Sprint(j.Spec.Generation))
	f("Epochs", strings.Trim(fmt.Sprint(j.Status.Epochs), "[]"))
	f("Started", clockTime(j.Status.Started))
	if !j.Status.Ended.IsZero() {
		f("Ended", clockTime(j.Status.Ended))
	}
	for _, s := range j.Status.Steps {
		if s.Manual != nil && s.State == api.StepIntended && !j.Status.Phase.Ended() {
			f("Waits", fmt.Sprintf("for a person: %s; then understudy jobs complete %s %s", s.Manual.Instructions, j.Metadata.Name, s.ID))
		}
	}
	if j.Status.CancelRequested && !j.Status.Phase.Ended() {
		f("Cancel", "requested; it stops at the next step boundary")
	}
	c.printSteps(j)
	c.printTimeline(j)
}

// fields prints "Name  value" lines, names padded to width; empty values are left out.
func (c *console) fields(width int) func(name, value string) {
	return func(name, value string) {
		if value != "" {
			c.print("  %-*s %s", width, name, value)
		}
	}
}

func (c *console) printSteps(j *api.Job) {
	if len(j.Status.Steps) == 0 {
		return
	}
	c.print("  Steps")
	t := newTable("STEP", "KIND", "STATE", "TOOK", "EXPECTED", "TRIES", "DETAIL")
	t.shade = c.shadeCell
	for _, s := range j.Status.Steps {
		took := "-"
		if !s.IntendedAt.IsZero() && !s.DoneAt.IsZero() {
			took = seconds(s.DoneAt.Sub(s.IntendedAt))
		}
		detail := s.Error
		if detail == "" {
			detail = s.Outcome
		}
		if detail == "" {
			detail = stepWhat(s)
		}
		t.add(s.ID, string(s.Kind), string(s.State), took, seconds(s.Expected.D()), fmt.Sprint(s.Attempts), orDash(detail))
	}
	t.write(c.out, "    ")
}

func (c *console) printTimeline(j *api.Job) {
	if len(j.Status.Timeline) == 0 {
		return
	}
	c.print("  Timeline")
	for _, e := range j.Status.Timeline {
		c.print("  %s", timelineLine(j, e))
	}
}

// timelineLine is one moment of a job, counted from its first.
func timelineLine(j *api.Job, e api.TimelineEntry) string {
	since := e.At.Sub(j.Status.Timeline[0].At)
	return strings.TrimRight(fmt.Sprintf("  %s  %+9.3fs  epoch %-3d %-28s %s", e.At.Local().Format("15:04:05.000"), since.Seconds(), e.Epoch, e.What, e.Detail), " ")
}
