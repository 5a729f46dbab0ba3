package lab

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

func TestCheckScribe(t *testing.T) {
	disk := func(last uint64) []byte {
		b := make([]byte, scribeSize)
		for n := uint64(1); n <= last; n++ {
			binary.BigEndian.PutUint64(b[n%scribeSlots*scribeBlock:], n)
		}
		return b
	}
	for _, last := range []uint64{0, 1, scribeSlots - 1, scribeSlots, scribeSlots + 1, 3*scribeSlots + 5} {
		if got, err := checkScribe(disk(last)); err != nil || got != last {
			t.Errorf("a disk with records up to %d: %d, %v", last, got, err)
		}
		if last < 2 {
			continue
		}
		for _, slot := range []uint64{(last - 1) % scribeSlots, last / 2 % scribeSlots} {
			b := disk(last)
			n := binary.BigEndian.Uint64(b[slot*scribeBlock:])
			binary.BigEndian.PutUint64(b[slot*scribeBlock:], n-min(n, scribeSlots)) // a write that is missing
			if _, err := checkScribe(b); err == nil && n > 0 {
				t.Errorf("records up to %d without %d pass", last, n)
			}
		}
	}
}

// TestCheckOrderCanFail gives the check a job in order, then one thing after the other out of order.
func TestCheckOrderCanFail(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	step := func(id string, from, to float64) api.Step {
		return api.Step{ID: id, State: api.StepDone, IntendedAt: at(from), DoneAt: at(to)}
	}
	good := []api.Step{step("before:data:prepare", 0, 1), step("data:app", 1, 3), step("data:web", 1, 4), step("after:data:tell", 4, 5)}
	for name, c := range map[string]struct {
		change func([]api.Step)
		passes bool
	}{
		"in order":              {func([]api.Step) {}, true},
		"script after machines": {func(s []api.Step) { s[0].DoneAt = at(2) }, false},
		"webhook too early":     {func(s []api.Step) { s[3].IntendedAt = at(3.5) }, false},
		"one after the other":   {func(s []api.Step) { s[2].IntendedAt, s[2].DoneAt, s[3].IntendedAt = at(3), at(4), at(4) }, false},
		"a step failed":         {func(s []api.Step) { s[3].State = api.StepFailed }, false},
	} {
		var r Result
		l := &planLab{machineLab: &machineLab{r: &r}}
		j := api.Job{Status: api.JobStatus{Steps: slices.Clone(good)}}
		c.change(j.Status.Steps)
		l.checkOrder(j, name)
		if r.finish(); r.Passed != c.passes {
			t.Errorf("%s: passed %t: %+v", name, r.Passed, r.Checks)
		}
	}
}

// TestPlan runs the scenario with real processes.
func TestPlan(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	o := testOptions(t)
	r, err := Run(ctx, "plan", o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if !c.Passed {
			t.Errorf("%s: %s", c.Name, c.Detail)
		} else {
			t.Logf("%s: %s", c.Name, c.Detail)
		}
	}
	if !r.Passed {
		t.Error("not passed")
	}
}
