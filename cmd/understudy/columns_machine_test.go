package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

// named makes a resource that is an hour and a half old.
func named[T any, P interface {
	*T
	api.Object
}](kind api.Kind, name string, o T) api.Object {
	p := P(&o)
	h := p.Head()
	h.Kind, h.Metadata.Name, h.Metadata.Tenant, h.Metadata.Created = kind, name, api.DefaultTenant, time.Now().Add(-150*time.Minute)
	return p
}

// machineObjects are resources of every kind that has to do with machines, in the states that look different.
func machineObjects() []api.Object {
	policy := api.ReplicationPolicy{}
	policy.Default()
	never := api.Duration(0)
	crashOnly := policy
	crashOnly.Spec.AppConsistentEvery = &never
	job := &api.Scenario{Name: "Failover", Job: "web-4m"}
	return []api.Object{
		named(api.KindSite, "hq", api.Site{Spec: api.SiteSpec{Nodes: []string{"host1", "ps1"}}}),
		named(api.KindSite, "dr", api.Site{Spec: api.SiteSpec{Controllers: []string{"c2", "c3"}, Nodes: []string{"host2"}}}),
		named(api.KindFabric, "hq", api.Fabric{Spec: api.FabricSpec{Type: api.FabricQEMU, Site: "hq", Nodes: []string{"host1"}}}),
		named(api.KindVault, "v", api.Vault{Spec: api.VaultSpec{Site: "dr", URL: "file:///v", Keeper: "host2", Tier: api.TierStandard, MaxRetention: api.Duration(72 * time.Hour)}}),
		named(api.KindReplicationPolicy, "gold", policy),
		named(api.KindReplicationPolicy, "crash", crashOnly),
		named(api.KindProcessServer, "ps1", api.ProcessServer{Spec: api.ProcessServerSpec{Site: "hq", Node: "ps1", Address: "10.0.0.5:9443",
			Roles: []api.ProcessServerRole{api.RoleProtection}, Spool: api.Spool{MaxBytes: 10 << 30}}}),
		named(api.KindProcessServer, "ps9", api.ProcessServer{Spec: api.ProcessServerSpec{Site: "dr", Node: "host2", Address: "10.1.0.5:9443", Temporary: true,
			Roles: []api.ProcessServerRole{api.RoleReprotection}, Spool: api.Spool{MaxBytes: 1<<30 + 1}}}),
		named(api.KindProtectedMachine, "new", api.ProtectedMachine{}),
		named(api.KindProtectedMachine, "copied", api.ProtectedMachine{Status: api.MachineStatus{ProtectionState: api.InitialReplication, ActiveLocation: api.Primary, ActiveSite: "hq",
			ReplicationHealth: api.HealthNormal, Replication: &api.ReplicationStatus{RPO: api.Duration(42 * time.Second), Progress: 61.8}}}),
		named(api.KindProtectedMachine, "web", api.ProtectedMachine{Status: api.MachineStatus{ProtectionState: api.Protected, ActiveLocation: api.Primary, ActiveSite: "hq",
			TestFailoverState: api.TestNone, ReplicationHealth: api.HealthNormal, Replication: &api.ReplicationStatus{RPO: api.Duration(1519 * time.Millisecond)},
			LastDrill: &api.DrillResult{At: time.Now().Add(-72*time.Hour - time.Minute), Passed: true}}}),
		named(api.KindProtectedMachine, "db", api.ProtectedMachine{Status: api.MachineStatus{ProtectionState: api.Protected, ActiveLocation: api.Primary, ActiveSite: "hq",
			TestFailoverState: api.TestWaitingForCleanup, ReplicationHealth: api.HealthCritical, Replication: &api.ReplicationStatus{RPO: api.Duration(time.Hour)},
			Conditions: []api.Condition{{Code: "RPOExceeded"}, {Code: "Resynchronising"}}}}),
		named(api.KindProtectedMachine, "old", api.ProtectedMachine{Status: api.MachineStatus{ProtectionState: api.FailoverInProgress, ActiveLocation: api.Recovery, ActiveSite: "dr",
			ReplicationHealth: api.HealthNone, CurrentScenario: job, LastDrill: &api.DrillResult{At: time.Now().Add(-30 * time.Minute)}}}),
		named(api.KindRecoveryPlan, "shop", api.RecoveryPlan{Spec: api.RecoveryPlanSpec{Groups: make([]api.PlanGroup, 3)}, Status: api.RecoveryPlanStatus{CurrentScenario: job,
			Machines: []api.PlanMachine{{Name: "web", ProtectionState: api.Protected}, {Name: "old", ProtectionState: api.FailoverInProgress}, {Name: "db", ProtectionState: api.Protected}, {Name: "gone"}}}}),
		named(api.KindRecoveryPlan, "empty", api.RecoveryPlan{}),
	}
}

// TestMachineColumns holds the tables of every kind against testdata/columns_machine.golden.
func TestMachineColumns(t *testing.T) {
	var out bytes.Buffer
	c := &console{out: &out}
	byKind := map[api.Kind][]api.Object{}
	for _, o := range machineObjects() {
		byKind[o.Head().Kind] = append(byKind[o.Head().Kind], o)
	}
	for _, k := range api.Kinds() {
		if objs := byKind[k.Kind]; len(objs) > 0 {
			c.print("$ understudy get %s", k.Plural)
			c.objectTable(k.Kind, objs).write(&out, "")
			c.print("")
		}
	}
	golden(t, "columns_machine.golden", out.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s differs (%v); go test -update writes it anew. Got:\n%s", path, err, got)
	}
}

// TestEveryKindHasColumns: a row has as many cells as its head, and no kind is left with the head of an unknown one.
func TestEveryKindHasColumns(t *testing.T) {
	for _, k := range api.Kinds() {
		if head, cells := columns(k.Kind), row(time.Now(), k.New()); len(head) != len(cells) || len(head) < 3 {
			t.Errorf("%s has the head %q and %d cells", k.Kind, head, len(cells))
		}
	}
}
