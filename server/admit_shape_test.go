package server

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

// TestAChangeLeavesWhatRuns: no change of a spec makes a machine run at two nodes, or takes away the vault that it reads.
func TestAChangeLeavesWhatRuns(t *testing.T) {
	run := func(l api.Location, vault string) *api.MachineAssignment {
		return &api.MachineAssignment{Stage: api.StageProtected, Location: l, Run: &api.MachineRun{Vault: vault}}
	}
	home := &api.MachineAssignment{Stage: api.StageProtected, Location: api.Primary}
	behind := func(a, b *api.MachineAssignment) *api.MachineAssignment { c := *a; c.Before = b; return &c }
	node := func(s *api.MachineSpec) { s.Recovery.Node = "host3" }
	vault := func(s *api.MachineSpec) { s.Failback = &api.MachineFailback{Vault: "other", ProcessServer: "ps2"} }
	none := func(s *api.MachineSpec) { s.Failback = nil }
	noVM := func(s *api.MachineSpec) { s.VM = nil }
	shipping := behind(run(api.Recovery, "v"), home)
	shipping.Yield = "u-b1"
	drilled := behind(home, nil)
	drilled.Drill = &api.MachineDrill{}
	stopped := behind(home, nil)
	stopped.Stopped = true
	for _, c := range []struct {
		name   string
		a      *api.MachineAssignment
		change func(*api.MachineSpec)
		gone   bool
		want   string // in the refusal; "": admitted
	}{
		{"recovery node, at home", home, node, false, ""},
		{"recovery node, runs there", behind(run(api.Recovery, "v"), home), node, false, `spec.recovery.node: "host3": want "host2" while the machine runs there`},
		{"recovery node, drill", drilled, node, false, "until the drill"},
		{"recovery node, may run there yet", behind(home, run(api.Recovery, "v")), node, false, "until it has said"},
		{"recovery node, nothing is left", behind(home, run(api.Recovery, "v")), node, true, ""},
		{"failback vault, never used", home, vault, false, ""},
		{"failback vault, shipped to", shipping, vault, false, `spec.failback.vault: "other": want "back"`},
		{"failback vault, came home from", behind(run(api.Primary, "back"), run(api.Recovery, "v")), vault, true, "spec.failback.vault"},
		{"failback, came home from", run(api.Primary, "back"), none, true, "spec.failback.vault"},
		{"failback, committed at the other side", behind(run(api.Recovery, "v"), home), none, false, ""},
		{"vm, up", home, noVM, false, "operation Shutdown"},
		{"vm, down", stopped, noVM, false, ""},
	} {
		old := api.MachineSpec{Recovery: api.MachineRecovery{Node: "host2"}, Failback: &api.MachineFailback{Vault: "back", ProcessServer: "ps2"}, VM: &api.VirtualMachine{}}
		s := old
		c.change(&s)
		if !touchesRuns(&old, &s) {
			t.Errorf("%s: the assignment is not looked at", c.name)
		}
		var bad api.Invalid
		keepsRuns(&bad, c.a, &old, &s, c.gone)
		switch err := bad.Err(); {
		case (err == nil) != (c.want == ""):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
