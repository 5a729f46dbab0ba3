package lab

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		scenario string
		o        Options
		want     string
	}{
		{"nva", Options{}, `scenario: nva: want one of nva-switch`},
		{"nva-switch", Options{Faults: []string{"flood"}}, `fault: flood: want all or one of planned, node`},
		{"nva-switch", Options{Effects: "magic"}, `effects: magic: want fabric or lease`},
		{"nva-switch", Options{Store: "redis"}, `store: redis: want etcd or zookeeper`},
		{"nva-switch", Options{Profile: "slow"}, `profile: slow: want fast or balanced`},
		{"nva-switch", Options{Rounds: -1}, `rounds: -1: want at least 1`},
		{"nva-switch", Options{Faults: []string{"upgrade"}}, `from is missing: want another release's program`},
		{"nva-switch", Options{Faults: []string{"rolling"}, From: "/bin/true"}, `from: /bin/true: want none without the fault upgrade`},
		{"nva-switch", Options{Faults: []string{"upgrade"}, From: "/no/program"}, `from: /no/program: want a program of another release that runs here: run`},
		{"nva-switch", Options{Faults: []string{"upgrade"}, From: "/bin/true"}, `from: /bin/true: want a program of another release that runs here: /bin/true version --json names no version`},
		{"nva-soak", Options{Faults: []string{"node"}}, `fault: [node]: want none: nobody dies in a soak`},
	} {
		_, err := Run(context.Background(), c.scenario, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("run %s with %+v: error %v, want %q", c.scenario, c.o, err, c.want)
		}
	}
}

func TestUpgradeRefusesTheVersionItHas(t *testing.T) {
	o := testOptions(t)
	o.Faults, o.From = []string{"all"}, o.Binary
	_, err := settleUpgrade(t.Context(), o, drills())
	if want := "want another version than this program's, which is dev too"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("upgrade from the same program: %v, want %q", err, want)
	}
	o.From = otherRelease(t)
	if chosen, err := settleUpgrade(t.Context(), o, drills()); err != nil || len(chosen) != len(drills()) {
		t.Errorf("upgrade from another version, among all faults: %d drills, %v", len(chosen), err)
	}
	o.From = ""
	if chosen, err := settleUpgrade(t.Context(), o, drills()); err != nil || len(chosen) != len(drills())-1 {
		t.Errorf("all faults with nothing to upgrade from: %d drills, %v; want all but upgrade", len(chosen), err)
	}
}

func TestChooseDrills(t *testing.T) {
	names := func(names ...string) (got []string) {
		chosen, err := chooseDrills(names)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range chosen {
			got = append(got, d.name)
		}
		return got
	}
	if got := names(); !slices.Equal(got, demoFaults) {
		t.Errorf("by default %v, want %v", got, demoFaults)
	}
	if got := names("freeze", "link", "node"); !slices.Equal(got, []string{"node", "link", "freeze"}) {
		t.Errorf("chose %v, want kernel appliances before user-space ones", got)
	}
	if got := names("all"); len(got) != len(drills()) {
		t.Errorf("all chose %v", got)
	}
}

func TestEveryCutIsBetweenPortsOfTheManagementSwitch(t *testing.T) {
	var ports []string
	for _, c := range cables {
		if c.network == netManagement {
			ports = append(ports, c.port())
		}
	}
	for _, cut := range cuts {
		pairs := cut.pairs("c2", "nva-b")
		if len(pairs) == 0 {
			t.Errorf("%s: cuts nothing", cut.name)
		}
		for _, p := range pairs {
			if !slices.Contains(ports, p[0]) || !slices.Contains(ports, p[1]) || p[0] == p[1] {
				t.Errorf("%s: cuts %v", cut.name, p)
			}
		}
	}
}
