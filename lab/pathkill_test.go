package lab

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every process of the data path is killed under load, 20 times in all.
func TestPathSurvivesKills(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Rounds = 20
	for _, f := range pathFaults() {
		if f.kill != nil {
			o.Faults = append(o.Faults, f.name)
		}
	}
	r := runPath(t, o)
	kills := 0
	for _, f := range r.Figures {
		if f.Name == "kills" && slices.Contains(o.Faults, f.Fault) {
			kills += int(f.Value)
		}
		if f.Name == "kills" && f.Fault != "" && f.Value == 0 {
			t.Errorf("nobody was killed by %s", f.Fault)
		}
	}
	if kills < 20 {
		t.Errorf("%d kills, want 20 at least", kills)
	}
}

// Every line and every disk of the data path fails once, and the source does not notice.
func TestPathOutages(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Gone = 8 * time.Second
	for _, f := range pathFaults() {
		if f.kill == nil {
			o.Faults = append(o.Faults, f.name)
		}
	}
	runPath(t, o)
}

func runPath(t *testing.T, o Options) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := Run(ctx, "path-kill", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Print(t.Output()); err != nil {
		t.Fatal(err)
	}
	if !r.Passed {
		t.Fail()
	}
	return r
}

func TestPathFaultsAreChosenByName(t *testing.T) {
	if all, err := choosePathFaults(nil); err != nil || len(all) != len(pathFaults()) {
		t.Errorf("by default %d, %v", len(all), err)
	}
	if some, err := choosePathFaults([]string{"link", "spool"}); err != nil || len(some) != 2 || some[0].name != "spool" {
		t.Errorf("two by name: %d, %v", len(some), err)
	}
	if _, err := choosePathFaults([]string{"flood"}); err == nil || !strings.Contains(err.Error(), "fault: flood: want all or one of protect, process-server") {
		t.Errorf("one that is not known: %v", err)
	}
}
