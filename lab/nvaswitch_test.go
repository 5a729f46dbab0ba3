package lab

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// runScenario runs a scenario and fails on every check that did not hold. Outages are measured on a machine that may be
// busy with anything: they have wide bounds here, and their own in a run by itself.
func runScenario(t *testing.T, scenario string, o Options) Result {
	t.Helper()
	r, err := Run(t.Context(), scenario, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Checks) == 0 {
		t.Error("nothing was checked")
	}
	for _, c := range r.Checks {
		if !c.Passed && !strings.HasSuffix(c.Name, " outage") {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	for _, f := range r.Figures {
		if f.Name == "outage_p50" && f.Peer == "" && !strings.HasPrefix(f.Fault, "leader") && f.Value > 5000 {
			t.Errorf("%s: median outage %v ms, want at most 5000", f.Fault, f.Value)
		}
	}
	return r
}

// figure gives a figure of Understudy's own; the test fails if it is not there.
func figure(t *testing.T, r Result, name, fault string) float64 {
	t.Helper()
	for _, f := range r.Figures {
		if f.Name == name && f.Fault == fault && f.Peer == "" {
			return f.Value
		}
	}
	t.Errorf("no figure %s of %s", name, fault)
	return 0
}

func TestAppliancesFail(t *testing.T) {
	o := testOptions(t)
	o.Faults, o.Rounds, o.NoPeers = []string{"planned", "node", "process", "freeze"}, 2, true
	r := runScenario(t, "nva-switch", o)
	o.Faults, o.NoControl = []string{"link", "link-silent"}, true
	more := runScenario(t, "nva-switch", o)
	r.Figures = append(r.Figures, more.Figures...)
	if lost := figure(t, r, "lost_packets", "planned"); lost != 0 {
		t.Errorf("planned moves lost %v packets", lost)
	}
	for _, fault := range []string{"node", "link", "link-silent", "process", "freeze"} {
		if moves := figure(t, r, "false_failovers", fault); moves != 0 {
			t.Errorf("%s: %v moves too many", fault, moves)
		}
		if detect, outage := figure(t, r, "detect_p50", fault), figure(t, r, "outage_max", fault); detect <= 0 || detect > outage+100 {
			t.Errorf("%s: seen after %v ms in an outage of %v ms", fault, detect, outage)
		}
	}
}

func TestAddressesMoveUnderALease(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Effects, o.Faults, o.Rounds, o.NoPeers, o.NoControl = "lease", []string{"planned", "node", "control-plane-gone"}, 1, true, true
	o.Gone = 8 * time.Second
	runScenario(t, "nva-switch", o)
}

func TestControlPlaneFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		store  string
		faults []string
	}{
		{"etcd", []string{"leader", "leader-mid-failover", "paused-leader", "partition", "both-down", "control-plane-gone", "upgrade"}},
		{"zookeeper", []string{"node", "leader-mid-failover", "control-plane-gone"}},
	} {
		t.Run(c.store, func(t *testing.T) {
			o := testOptions(t)
			o.Store, o.Faults, o.Rounds, o.Gone, o.NoPeers, o.NoControl = c.store, c.faults, 1, 8*time.Second, true, true
			if slices.Contains(c.faults, upgradeDrill) {
				o.From = otherRelease(t)
			}
			runScenario(t, "nva-switch", o)
		})
	}
}

func TestSoak(t *testing.T) {
	o := testOptions(t)
	o.Duration = 2 * time.Minute
	r := runScenario(t, "nva-soak", o)
	if n := figure(t, r, "false_failovers", "soak"); n != 0 {
		t.Errorf("%v false failovers", n)
	}
}
