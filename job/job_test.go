package job

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func plan(steps ...api.Step) *api.Job {
	for i := range steps {
		steps[i].Deadline = api.Duration(time.Minute)
	}
	return New("j", "default", api.JobSpec{To: "b"}, steps, t0)
}

func TestIntendHonoursNeedsAndLocks(t *testing.T) {
	j := plan(
		api.Step{ID: "detach", Lock: "nic-a"},
		api.Step{ID: "other", Lock: "nic-a"},
		api.Step{ID: "attach", Lock: "nic-b", Needs: []string{"detach"}},
		api.Step{ID: "routes"},
		api.Step{ID: "busy", Lock: "nic-c"},
	)
	if got := Intend(j, map[string]bool{"nic-c": true}, 1, t0); !slices.Equal(got, []string{"detach", "routes"}) {
		t.Fatalf("intends %v, want detach and routes", got)
	}
	Record(j, Result{Step: "detach", At: t0}, 1)
	if got := Intend(j, nil, 1, t0); !slices.Equal(got, []string{"other", "attach", "busy"}) {
		t.Fatalf("intends %v, want other, attach, busy", got)
	}
}

func TestEnds(t *testing.T) {
	broken := errors.New("broken")
	nobody := func(string) bool { return false }
	for _, c := range []struct {
		name    string
		steps   []api.Step
		results []Result
		cancel  bool
		want    api.Phase
		says    string
	}{
		{"all done", []api.Step{{ID: "a"}}, []Result{{Step: "a"}}, false, api.Succeeded, ""},
		{"one open", []api.Step{{ID: "a"}, {ID: "b"}}, []Result{{Step: "a"}}, false, api.Running, ""},
		{"one refused for good", []api.Step{{ID: "a"}, {ID: "b", Needs: []string{"a"}}}, []Result{{Step: "a", Err: broken, Permanent: true}}, false, api.Blocked, "a: broken"},
		{"one overdue", []api.Step{{ID: "a"}}, []Result{{Step: "a", Err: broken, Overdue: true}}, false, api.Blocked, "a: broken"},
		{"one failed attempt", []api.Step{{ID: "a"}}, []Result{{Step: "a", Err: broken}}, false, api.Running, ""},
		{"an optional one failed", []api.Step{{ID: "a", Optional: true}, {ID: "b"}}, []Result{{Step: "a", Err: broken, Permanent: true}, {Step: "b"}}, false, api.Succeeded, ""},
		{"cancelled between steps", []api.Step{{ID: "a"}, {ID: "b", Needs: []string{"a"}}, {ID: "c"}}, []Result{{Step: "a"}}, true, api.Cancelled, "done: a; may have happened: c; not done: b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := plan(c.steps...)
			Intend(j, nil, 1, t0)
			for _, r := range c.results {
				r.At = t0
				Record(j, r, 1)
			}
			j.Status.CancelRequested = c.cancel
			Settle(j, nobody, 1, t0)
			if j.Status.Phase != c.want || !strings.Contains(j.Status.Message, c.says) {
				t.Errorf("%s %q, want %s %q", j.Status.Phase, j.Status.Message, c.want, c.says)
			}
		})
	}
}

func TestACancelledJobWaitsForWhatIsUnderWay(t *testing.T) {
	j := plan(api.Step{ID: "a"})
	Intend(j, nil, 1, t0)
	j.Status.CancelRequested = true
	if Settle(j, func(string) bool { return true }, 1, t0) {
		t.Fatal("ended while a step was under way")
	}
	if !Settle(j, func(string) bool { return false }, 1, t0) || j.Status.Phase != api.Cancelled {
		t.Fatal("did not end at the boundary")
	}
}

func TestCloneSharesNothingThatChanges(t *testing.T) {
	j := plan(api.Step{ID: "a"}, api.Step{ID: "b"})
	Adopt(j, 1, t0)
	c := Clone(j)
	Intend(c, nil, 1, t0)
	Adopt(c, 2, t0)
	if j.Status.Steps[0].State != api.StepPending || len(j.Status.Timeline) != 0 || len(j.Status.Epochs) != 1 {
		t.Fatalf("the original changed: %+v", j.Status)
	}
}

// Any graph, any order of answers, any failures: every job ends, no step begins before what it needs, and no two
// steps with one lock are open at once.
func TestEveryJobEnds(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var steps []api.Step
		for i := range 2 + rng.IntN(8) {
			s := api.Step{ID: fmt.Sprint("s", i), Optional: rng.IntN(4) == 0, Lock: []string{"", "x", "y"}[rng.IntN(3)]}
			for k := range i {
				if rng.IntN(4) == 0 {
					s.Needs = append(s.Needs, fmt.Sprint("s", k))
				}
			}
			steps = append(steps, s)
		}
		runRandomly(t, seed, rng, plan(steps...))
	}
}

func runRandomly(t *testing.T, seed uint64, rng *rand.Rand, j *api.Job) {
	var open []string
	for range 1000 {
		for _, id := range Intend(j, nil, 1, t0) {
			for _, need := range Find(j, id).Needs {
				if n := Find(j, need); n.State != api.StepDone && !(n.Optional && n.State == api.StepFailed) {
					t.Fatalf("seed %d: %s began while %s was %s", seed, id, need, n.State)
				}
			}
			open = append(open, id)
		}
		locks := map[string]string{}
		for _, id := range open {
			if l := Find(j, id).Lock; l != "" && locks[l] != "" {
				t.Fatalf("seed %d: %s and %s hold %s at once", seed, id, locks[l], l)
			}
			locks[Find(j, id).Lock] = id
		}
		if Settle(j, func(id string) bool { return slices.Contains(open, id) }, 1, t0) {
			return
		}
		i := rng.IntN(len(open))
		r := Result{Step: open[i], At: t0}
		if rng.IntN(5) == 0 {
			r.Err, r.Permanent = errors.New("broken"), true
		}
		Record(j, r, 1)
		open = slices.Delete(open, i, i+1)
	}
	t.Fatalf("seed %d: job did not end: %+v", seed, j.Status.Steps)
}
