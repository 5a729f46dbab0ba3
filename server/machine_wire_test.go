package server_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore/open"
	"github.com/understudy-ha/understudy/vault"
)

// engineSays is how an engine is once it was told its section.
func engineSays(s api.Section) *api.EngineState {
	switch {
	case s.Protect != nil:
		phase := map[string]string{"writable": "protected"}[s.Protect.Mode]
		return &api.EngineState{Phase: phase, Done: s.Protect.PointNow, LastPointSeq: 2, Stored: 2, Changes: api.ChangeCount{Captured: 2, Stored: 2}, RPO: api.Duration(300 * time.Millisecond)}
	case s.Site != nil:
		return &api.EngineState{Phase: map[string]string{"writable": "running", "discard": "discarded"}[s.Site.Mode], Instance: s.Site.Instance}
	}
	return &api.EngineState{Phase: "serving"}
}

// TestADrillOverTheWire goes the whole way: API, leader, a real vault's index, pushes with secrets, agents' reports, status.
func TestADrillOverTheWire(t *testing.T) {
	tr := newTrio(t)
	s := &site{t: t, admin: tr.admin}
	dir := t.TempDir()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range ground(s) {
		switch o := o.(type) {
		case *api.Secret:
			o.Data["identity"] = id.String()
		case *api.Vault:
			o.Spec.URL, o.Spec.Recipient = "file://"+dir+"/"+o.Metadata.Name, id.Recipient().String()
		case *api.Site:
			if o.Metadata.Name == "dr" {
				o.Spec.Controllers = tr.names
			}
		}
		s.apply(tr.admin, o)
	}
	s.apply(tr.admin, web())
	agents := map[string]*fakeAgent{}
	for _, n := range []string{"host1", "host2", "ps1", "ps2"} {
		agents[n] = startAgent(tr, n)
		agents[n].mu.Lock()
		agents[n].says = engineSays
		agents[n].mu.Unlock()
	}
	m := s.untilMachine("protected", func(m *api.ProtectedMachine) bool {
		return m.Status.ProtectionState == api.Protected && m.Status.CurrentScenario == nil && m.Status.Replication != nil
	})
	if m.Status.Replication.RPO.D() != 300*time.Millisecond || m.Status.ReplicationHealth != api.HealthNormal {
		t.Errorf("status %+v", m.Status)
	}

	if err := os.Mkdir(dir+"/v", 0o700); err != nil {
		t.Fatal(err)
	}
	fillVault(t, "file://"+dir+"/v", id, m.Status.Assignment.Machine)
	var points api.PointList
	if err := tr.admin.Call(t.Context(), "GET", "/v1/protectedmachines/web/points", nil, "", nil, &points); err != nil {
		t.Fatal(err)
	}
	if len(points.Items) != 1 || points.Items[0].ID != "p1" || points.Items[0].Seq != 2 || points.Items[0].Consistency != api.AppConsistent {
		t.Fatalf("points %+v", points)
	}

	ask := func(o api.Operation) {
		t.Helper()
		if err := tr.admin.Call(t.Context(), "POST", "/v1/protectedmachines/web/operations", nil, "", o, nil); err != nil {
			t.Fatal(err)
		}
	}
	ask(api.Operation{Operation: api.OpTestFailover, Point: &api.PointChoice{Kind: api.PointCustom, ID: "p1"}})
	m = s.untilMachine("rehearsed", func(m *api.ProtectedMachine) bool { return m.Status.TestFailoverState == api.TestWaitingForCleanup })
	if m.Status.Test == nil || m.Status.Test.Point == nil || m.Status.Test.Point.Seq != 2 || m.Status.Test.Phase != "running" {
		t.Errorf("test %+v", m.Status.Test)
	}
	for node, has := range map[string]bool{"host1": false, "host2": true, "ps1": false} {
		agents[node].mu.Lock()
		if got := agents[node].secrets["key"]["identity"] == id.String(); node != "host1" && got != has {
			t.Errorf("%s was sent the key: %v, want %v", node, got, has)
		}
		agents[node].mu.Unlock()
	}
	ask(api.Operation{Operation: api.OpTestFailoverCleanup, Notes: "as expected"})
	m = s.untilMachine("cleaned up", func(m *api.ProtectedMachine) bool { return m.Status.LastDrill != nil })
	if d := m.Status.LastDrill; !d.Passed || d.Notes != "as expected" || d.Point != "p1" {
		t.Errorf("last drill %+v", d)
	}
	var metrics []byte
	if err := tr.admin.Call(t.Context(), "GET", "/metrics", nil, "", nil, &metrics); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`understudy_machine_rpo_seconds{machine="web",over="now",tenant="default"} 0.3`,
		`understudy_machine_records{machine="web",state="stored",tenant="default"} 2`,
		`understudy_machine_replication_health{machine="web",tenant="default"} 1`,
		`understudy_machine_failover_ready{machine="web",tenant="default"} 1`,
		`understudy_machine_location{location="Primary",machine="web",state="Protected",tenant="default"} 1`,
		`understudy_machine_last_drill_timestamp_seconds{machine="web",tenant="default"} `,
		`understudy_processserver_connected{processserver="ps1",tenant="default"} 1`,
		`understudy_processserver_conditions{processserver="ps1",severity="critical",tenant="default"} 0`,
		`understudy_vault_conditions{severity="warning",tenant="default",vault="v"} `,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("metrics lack %q", want)
		}
	}
}

// fillVault makes a vault with one stream and one point, as process server and vault would.
func fillVault(t *testing.T, url string, id *age.X25519Identity, a *api.MachineAssignment) {
	t.Helper()
	st, err := open.Store(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Create(t.Context(), st, id.Recipient().String(), vault.Options{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	w, err := v.Writer(t.Context(), vault.StreamSpec{ID: a.Stream, Epoch: uint64(a.Epoch), Disks: []vault.Disk{{ID: "root", Size: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	_, err = w.Append(t.Context(), []journal.Record{{Seq: 1, Kind: journal.Write, Len: 512, Data: make([]byte, 512), Time: now.UnixNano()},
		{Seq: 2, Kind: journal.Point, Time: now.UnixNano(), Point: &journal.PointInfo{ID: "p1", At: now, Consistency: journal.App}}})
	if err != nil {
		t.Fatal(err)
	}
}
