package recovery

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

// TestConditionsOfWhatItDependsOn: what is wrong with a machine's process server or vault is wrong with the machine, and what its
// process server says of others is not.
func TestConditionsOfWhatItDependsOn(t *testing.T) {
	v := view()
	v.Assignment = &api.Assignment{Machine: &api.MachineAssignment{UID: v.Machine.Spec.UID, Stage: api.StageProtected, Location: api.Primary, Stream: "u-1"}}
	said := map[string][]api.Condition{
		api.EngineProcessServer: {
			{Code: "ProcessServerCPU", Severity: api.Critical, Message: "CPU above 95 %"},
			{Code: "SpoolFull", Severity: api.Critical, Message: "machine " + v.name() + ": the spool takes no more"},
			{Code: "VaultUnreachable", Severity: api.Warning, Message: "machine default/other: no route"}},
		api.EngineKeeper: {{Code: "VaultNotKept", Severity: api.Warning, Message: "denied"}},
	}
	v.Report = func(_, engine, owner string) (api.SectionStatus, bool) {
		return api.SectionStatus{Engine: engine, Owner: owner, State: &api.EngineState{Phase: "protected", Conditions: said[engine]}}, true
	}
	s := v.status("")
	for code, want := range map[string]string{"ProcessServerCPU": v.ProcessServer.Metadata.Name + ": CPU above", "SpoolFull": v.ProcessServer.Metadata.Name + ": the spool",
		"VaultNotKept": v.Vault.Metadata.Name + ": denied"} {
		found := ""
		for _, c := range s.Conditions {
			if c.Code == code {
				found = c.Message
			}
		}
		if !strings.HasPrefix(found, want) {
			t.Errorf("%s: %q, want %q", code, found, want)
		}
	}
	for _, c := range s.Conditions {
		if c.Code == "VaultUnreachable" {
			t.Errorf("another machine's condition: %+v", c)
		}
	}
	if s.ReplicationHealth != api.HealthCritical {
		t.Errorf("health %s", s.ReplicationHealth)
	}
}

// TestCountersOfAMachine: what is shown balances, also while positions (points, flushes) run ahead.
func TestCountersOfAMachine(t *testing.T) {
	v := view()
	m := &api.MachineAssignment{Stage: api.StageProtected, Location: api.Primary}
	r := v.replication(m, &api.EngineState{Captured: 284, Stored: 259, Dirty: 15, Changes: api.ChangeCount{Captured: 200, Stored: 185, Dirty: 15}})
	if r.Captured != r.Stored+r.Dirty || r.Captured != 200 {
		t.Errorf("%d captured, %d stored, %d dirty", r.Captured, r.Stored, r.Dirty)
	}
}
