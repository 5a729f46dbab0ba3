package graph

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/api"
)

func sample() []api.Step {
	return []api.Step{
		{ID: "routes"},
		{ID: "detach-1", Lock: "a"},
		{ID: "detach-2", Lock: "a"},
		{ID: "attach", Lock: "b", Needs: []string{"detach-1", "detach-2"}},
	}
}

func TestRunHonoursNeedsAndLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := Run(t.Context(), sample(), func(ctx context.Context, s api.Step) (string, error) {
			time.Sleep(10 * time.Second)
			return "ok", nil
		})
		if err != nil {
			t.Fatal(err)
		}
		end := map[string]time.Duration{}
		for _, g := range got {
			end[g.ID] = g.End
		}
		want := map[string]time.Duration{"routes": 10 * time.Second, "detach-1": 10 * time.Second, "detach-2": 20 * time.Second, "attach": 30 * time.Second}
		for id, w := range want {
			if end[id] != w {
				t.Errorf("step %s ends at %v, want %v", id, end[id], w)
			}
		}
		path, err := CriticalPath(sample(), func(api.Step) time.Duration { return 10 * time.Second })
		if err != nil || path != 30*time.Second {
			t.Errorf("critical path %v, %v; want 30s", path, err)
		}
	})
}

func TestRunStopsBehindFailure(t *testing.T) {
	broken := errors.New("broken")
	got, err := Run(t.Context(), sample(), func(_ context.Context, s api.Step) (string, error) {
		if s.ID == "detach-1" {
			return "", broken
		}
		return "", nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want the step's", err)
	}
	if slices.ContainsFunc(got, func(g Timing) bool { return g.ID == "attach" }) {
		t.Error("attach ran although detach-1 failed")
	}
}

func TestRefusesBrokenGraphs(t *testing.T) {
	for name, steps := range map[string][]api.Step{
		"twice":   {{ID: "a"}, {ID: "a"}},
		"unknown": {{ID: "a", Needs: []string{"b"}}},
		"circle":  {{ID: "a", Needs: []string{"b"}}, {ID: "b", Needs: []string{"a"}}},
	} {
		if _, err := Run(t.Context(), steps, func(context.Context, api.Step) (string, error) { return "", nil }); err == nil {
			t.Errorf("%s: Run accepts it", name)
		}
		if _, err := CriticalPath(steps, func(api.Step) time.Duration { return 0 }); err == nil {
			t.Errorf("%s: CriticalPath accepts it", name)
		}
	}
}
