package server_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// ground is everything that a machine from hq to dr refers to. The only controller stands at dr.
func ground(s *site) []api.Object {
	name := "c1"
	var st api.ClusterStatus
	if err := s.admin.Call(s.t.Context(), "GET", "/v1/status", nil, "", nil, &st); err == nil {
		name = st.Controller
	}
	node := func(n string) api.Object { return &api.Node{Header: head(api.KindNode, "", n)} }
	objs := []api.Object{node("host1"), node("host2"), node("ps1"), node("ps2")}
	return append(objs,
		&api.Secret{Header: head(api.KindSecret, "", "key"), Data: map[string]string{"identity": "AGE-SECRET-KEY-1"}},
		&api.Site{Header: head(api.KindSite, "", "hq"), Spec: api.SiteSpec{Nodes: []string{"host1", "ps1"}}},
		&api.Site{Header: head(api.KindSite, "", "dr"), Spec: api.SiteSpec{Controllers: []string{name}, Nodes: []string{"host2", "ps2"}}},
		&api.Fabric{Header: head(api.KindFabric, "", "hq"), Spec: api.FabricSpec{Site: "hq", Nodes: []string{"host1"}}},
		&api.Fabric{Header: head(api.KindFabric, "", "dr"), Spec: api.FabricSpec{Site: "dr", Nodes: []string{"host2"}}},
		&api.Vault{Header: head(api.KindVault, "", "v"), Spec: api.VaultSpec{Site: "dr", URL: "file:///v", Recipient: recipient, KeyRef: "key", Keeper: "host2"}},
		&api.Vault{Header: head(api.KindVault, "", "back"), Spec: api.VaultSpec{Site: "hq", URL: "file:///back", Recipient: recipient, KeyRef: "key", Keeper: "host1"}},
		&api.ReplicationPolicy{Header: head(api.KindReplicationPolicy, "", "gold")},
		&api.ReplicationPolicy{Header: head(api.KindReplicationPolicy, "", "long"), Spec: api.PolicySpec{Retention: api.Duration(100 * time.Hour)}},
		&api.ProcessServer{Header: head(api.KindProcessServer, "", "ps1"), Spec: api.ProcessServerSpec{Node: "ps1", Site: "hq", Address: "10.0.0.5:9443", Roles: []api.ProcessServerRole{api.RoleProtection}}},
		&api.ProcessServer{Header: head(api.KindProcessServer, "", "ps2"), Spec: api.ProcessServerSpec{Node: "ps2", Site: "dr", Address: "10.1.0.5:9443"}})
}

func web() *api.ProtectedMachine {
	return &api.ProtectedMachine{Header: head(api.KindProtectedMachine, "", "web"), Spec: api.MachineSpec{Policy: "gold", ProcessServer: "ps1", Vault: "v",
		Source: api.MachineSource{Site: "hq", Fabric: "hq", Node: "host1"}, Disks: []api.MachineDisk{{Name: "root", Path: "/srv/web"}},
		Recovery: api.MachineRecovery{Site: "dr", Fabric: "dr", Node: "host2"}, Failback: &api.MachineFailback{Vault: "back", ProcessServer: "ps2"}}}
}

func TestMachineAdmission(t *testing.T) {
	s := newSite(t)
	s.apply(s.admin, ground(s)...)
	for _, c := range []struct {
		name   string
		change func(*api.ProtectedMachine)
		text   string
	}{
		{"no such policy", func(m *api.ProtectedMachine) { m.Spec.Policy = "silver" }, `spec.policy: "silver": want a ReplicationPolicy`},
		{"policy keeps longer than the vault", func(m *api.ProtectedMachine) { m.Spec.Policy = "long" }, "at most 72h0m0s"},
		{"no such vault", func(m *api.ProtectedMachine) { m.Spec.Vault = "x" }, `spec.vault: "x": want a Vault`},
		{"fabric of another site", func(m *api.ProtectedMachine) { m.Spec.Source.Fabric = "dr" }, "a fabric of site hq"},
		{"node of no fabric", func(m *api.ProtectedMachine) { m.Spec.Source.Node = "ps1" }, "a node of fabric hq: host1"},
		{"process server elsewhere", func(m *api.ProtectedMachine) { m.Spec.ProcessServer = "ps2" }, "a process server of site hq"},
		{"process server without the role", func(m *api.ProtectedMachine) { m.Spec.Failback.ProcessServer = "ps1" }, "with role Reprotection"},
		{"failback vault elsewhere", func(m *api.ProtectedMachine) { m.Spec.Vault, m.Spec.Failback.Vault = "back", "v" }, "a vault of site hq"},
		{"vault at the source", func(m *api.ProtectedMachine) { m.Spec.Vault, m.Spec.Failback = "back", nil }, "VaultInReach"},
	} {
		m := web()
		c.change(m)
		_, _, err := s.admin.Apply(t.Context(), m, false)
		if err == nil {
			t.Fatalf("%s: admitted", c.name)
		}
		wantCode(t, err, api.CodeInvalid, c.text)
	}
	m := web()
	m.Spec.Vault, m.Spec.Failback = "back", nil
	m.Spec.Overrides = []string{api.OverrideVault, api.OverrideKey}
	if _, _, err := s.admin.Apply(t.Context(), m, true); err != nil {
		t.Errorf("overridden by name: %v", err)
	}

	s.apply(s.admin, web())
	twin := web()
	twin.Metadata.Name = "twin"
	_, _, err := s.admin.Apply(t.Context(), twin, false)
	wantCode(t, err, api.CodeInvalid, "ProtectedMachine/default/web has it")

	first := s.machine("web")
	if len(first.Spec.UID) != 16 {
		t.Errorf("uid %q", first.Spec.UID)
	}
	again := web()
	again.Spec.UID = "mine"
	again.Spec.StopTimeout = api.Duration(time.Minute)
	s.apply(s.admin, again)
	if got := s.machine("web"); got.Spec.UID != first.Spec.UID || got.Metadata.Generation != 2 {
		t.Errorf("uid %s was %s, generation %d", got.Spec.UID, first.Spec.UID, got.Metadata.Generation)
	}
	for _, used := range []string{"vaults/v", "replicationpolicies/gold", "processservers/ps1", "sites/dr", "fabrics/hq", "nodes/host1", "secrets/key"} {
		err := s.admin.Call(t.Context(), "DELETE", "/v1/"+used, nil, "*", nil, nil)
		if code(err) != api.CodeConflict || !strings.Contains(err.Error(), "is used by") {
			t.Errorf("delete %s: %v", used, err)
		}
	}
}

func (s *site) machine(name string) *api.ProtectedMachine {
	s.t.Helper()
	var m api.ProtectedMachine
	if err := s.admin.Call(s.t.Context(), "GET", "/v1/protectedmachines/"+name, nil, "", nil, &m); err != nil {
		s.t.Fatal(err)
	}
	return &m
}

// untilMachine waits until the machine is so.
func (s *site) untilMachine(what string, ok func(*api.ProtectedMachine) bool) *api.ProtectedMachine {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		m := s.machine("web")
		if ok(m) {
			return m
		}
		if time.Now().After(end) {
			s.t.Fatalf("never %s: %+v, assignment %+v", what, m.Status, m.Status.Assignment)
		}
	}
}

func TestOperationsOfAMachine(t *testing.T) {
	s := newSite(t)
	s.apply(s.admin, ground(s)...)
	s.apply(s.admin, web())
	post := func(c *client.Client, body any) (q api.Request, err error) {
		err = c.Call(context.Background(), "POST", "/v1/protectedmachines/web/operations", nil, "", body, &q)
		return q, err
	}
	m := s.untilMachine("set up", func(m *api.ProtectedMachine) bool { return m.Status.Assignment != nil && m.Status.ActiveLocation != "" })
	if a := m.Status.Assignment.Machine; a == nil || a.Stream != m.Spec.UID+"-1" || m.Status.ActiveLocation != api.Primary {
		t.Fatalf("assignment %+v", a)
	}
	_, err := post(s.admin, map[string]any{"operation": "Reboot"})
	wantCode(t, err, api.CodeInvalid, "TestFailover")
	_, err = post(s.admin, map[string]any{"operation": "Failover", "force": true})
	wantCode(t, err, api.CodeInvalid, "force")
	_, err = post(s.user("eve", api.Viewer, "default"), api.Operation{Operation: api.OpFailover})
	wantCode(t, err, api.CodeForbidden, "operator")
	_, err = post(s.user("bob", api.Operator, "other"), api.Operation{Operation: api.OpFailover})
	wantCode(t, err, api.CodeNotFound, "")
	m = s.untilMachine("busy", func(m *api.ProtectedMachine) bool { return m.Status.CurrentScenario != nil })
	_, err = post(s.admin, api.Operation{Operation: api.OpCommit})
	wantCode(t, err, api.CodeConflict, "is running")

	job := m.Status.CurrentScenario.Job // its nodes have no agents: it would wait for them
	if err := s.admin.Call(t.Context(), "POST", "/v1/jobs/"+job+"/cancel", nil, "", nil, nil); err != nil {
		t.Fatal(err)
	}
	s.untilMachine("cancelled", func(m *api.ProtectedMachine) bool { return slices.Contains(m.Status.AllowedOperations, api.OpFailover) })
	_, err = post(s.admin, api.Operation{Operation: api.OpCommit})
	wantCode(t, err, api.CodeConflict, "allowed are TestFailover, Failover")
	q, err := post(s.admin, api.Operation{Operation: api.OpFailover, Notes: "the roof is gone"})
	if err != nil || q.ID == "" || q.Operation.Operation != api.OpFailover {
		t.Fatalf("request %+v, %v", q, err)
	}
	m = s.untilMachine("moving", func(m *api.ProtectedMachine) bool { return m.Status.ActiveLocation == api.Recovery })
	if m.Status.ProtectionState != api.FailoverInProgress || m.Status.ActiveSite != "dr" {
		t.Errorf("status %+v", m.Status)
	}
	err = s.admin.Call(t.Context(), "DELETE", "/v1/protectedmachines/web", nil, "*", nil, nil)
	wantCode(t, err, api.CodeConflict, "Disable")
	err = s.admin.Call(t.Context(), "POST", "/v1/jobs/"+m.Status.CurrentScenario.Job+"/complete", nil, "", api.StepCompletion{Step: "choose"}, nil)
	wantCode(t, err, api.CodeInvalid, "a manual step that waits")

	var report api.DoctorReport
	if err := s.admin.Call(t.Context(), "GET", "/v1/doctor", nil, "", nil, &report); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(report.Findings, func(f api.DoctorFinding) bool { return f.Subject == "ProtectedMachine/default/web" }) {
		t.Errorf("doctor says nothing of the machine: %+v", report)
	}
	if ready, known := report.Ready["default/machine/web"]; ready || !known {
		t.Errorf("doctor takes a machine that is being moved for ready: %+v", report.Ready)
	}
	if !slices.ContainsFunc(report.Findings, func(f api.DoctorFinding) bool {
		return f.Code == "NotReady" && strings.Contains(f.Message, "Failback is not allowed now: job")
	}) {
		t.Errorf("doctor does not say why: %+v", report)
	}
}
