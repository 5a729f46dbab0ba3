package main

import (
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

func step(id string, took time.Duration, lock string, needs ...string) api.Step {
	return api.Step{ID: id, Expected: api.Duration(took), Lock: lock, Needs: needs}
}

func TestCriticalSteps(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps []api.Step
		want  []string
	}{
		{"none", nil, nil},
		{"one", []api.Step{step("a", 1, "")}, []string{"a"}},
		{"the longer of two", []api.Step{step("a", 1, ""), step("b", 2, "")}, []string{"b"}},
		{"both of two alike", []api.Step{step("a", 2, ""), step("b", 2, "")}, []string{"a", "b"}},
		{"by needs", []api.Step{step("detach", 4, ""), step("attach", 1, "", "detach"), step("routes", 3, ""), step("verify", 1, "", "attach", "routes")},
			[]string{"detach", "attach", "verify"}},
		{"by lock", []api.Step{step("a", 3, "nic"), step("b", 3, "nic"), step("c", 5, "")}, []string{"a", "b"}},
		{"an end at the same moment that nothing waited for", []api.Step{step("a", 2, ""), step("x", 2, ""), step("b", 3, "", "a")}, []string{"a", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, r := range viewPlan(api.Plan{Steps: c.steps}).Rows {
				if r.Critical {
					got = append(got, r.ID)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestScheduleStartsWhenWhatIsNeededIsDone(t *testing.T) {
	v := viewPlan(api.Plan{Steps: []api.Step{step("a", 2*time.Second, ""), step("b", time.Second, "", "a")}})
	if v.Rows[1].Start.D() != 2*time.Second || v.Rows[1].End.D() != 3*time.Second {
		t.Errorf("b runs from %v to %v", v.Rows[1].Start, v.Rows[1].End)
	}
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 83_400 * time.Microsecond: "83ms", 12_345 * time.Nanosecond: "12µs", 1_519 * time.Millisecond: "1.52s",
		125_400 * time.Millisecond: "2m5s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) is %q, want %q", d, got, want)
		}
	}
	now := time.Unix(1_000_000, 0)
	for d, want := range map[time.Duration]string{-time.Second: "0s", 119 * time.Second: "119s", 3 * time.Minute: "3m", 5 * time.Hour: "5h", 72 * time.Hour: "3d"} {
		if got := age(now, now.Add(-d)); got != want {
			t.Errorf("age of %v is %q, want %q", d, got, want)
		}
	}
	if got := age(now, time.Time{}); got != "-" {
		t.Errorf("age of never is %q", got)
	}
}
