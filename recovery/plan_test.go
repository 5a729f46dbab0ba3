package recovery

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func head(k api.Kind, name string) api.Header {
	return api.Header{APIVersion: api.Version, Kind: k, Metadata: api.Metadata{Name: name, Tenant: "default", Generation: 1}}
}

// view is a machine from hq to dr, whose nodes all have sessions, but for those that are gone.
func view(gone ...string) View {
	m := &api.ProtectedMachine{Header: head(api.KindProtectedMachine, "web"), Spec: api.MachineSpec{UID: "u", Policy: "gold", ProcessServer: "ps1", Vault: "v",
		Source: api.MachineSource{Site: "hq", Node: "host1"}, Disks: []api.MachineDisk{{Name: "root", Path: "/srv/web"}}, VM: &api.VirtualMachine{},
		Recovery: api.MachineRecovery{Site: "dr", Node: "host2", Check: &api.ServiceCheck{Address: "10.0.0.1:80"}, TestNetwork: []api.VirtualNIC{{Mode: api.NICIsolated}}},
		Failback: &api.MachineFailback{Vault: "back", ProcessServer: "ps2"}}}
	v := View{Machine: m, Generation: 1, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	v.Policy = &api.ReplicationPolicy{Header: head(api.KindReplicationPolicy, "gold")}
	v.Vault = &api.Vault{Header: head(api.KindVault, "v"), Spec: api.VaultSpec{Site: "dr", URL: "file:///v", Keeper: "keeper2", KeyRef: "key"}}
	v.BackVault = &api.Vault{Header: head(api.KindVault, "back"), Spec: api.VaultSpec{Site: "hq", URL: "file:///back", Keeper: "keeper1", KeyRef: "key"}}
	v.ProcessServer = &api.ProcessServer{Header: head(api.KindProcessServer, "ps1"), Spec: api.ProcessServerSpec{Node: "ps1", Site: "hq", Address: "10.0.0.5:9443"}}
	v.BackServer = &api.ProcessServer{Header: head(api.KindProcessServer, "ps2"), Spec: api.ProcessServerSpec{Node: "ps2", Site: "dr", Address: "10.1.0.5:9443"}}
	for _, o := range []api.Object{m, v.Policy, v.Vault, v.BackVault, v.ProcessServer, v.BackServer} {
		o.Default()
	}
	v.Silent = func(node string) time.Duration {
		for _, g := range gone {
			if g == node {
				return time.Minute
			}
		}
		return 0
	}
	v.Report = func(string, string, string) (api.SectionStatus, bool) { return api.SectionStatus{}, false }
	return v
}

// after brings a machine through operations, as if every job had found point 42 and succeeded.
func (v View) after(ops ...api.OperationKind) View {
	m := v.first()
	for i := 0; ; i++ {
		if m.Run != nil && m.Run.Point == nil {
			m.Run.Point = &api.RecoveryPoint{ID: "p", Stream: m.Run.Stream, Seq: 42}
		}
		if m.Drill != nil {
			m.Drill.Point, m.Drill.Passed = &api.RecoveryPoint{ID: "p", Stream: m.Drill.Stream, Seq: 42}, true
		}
		v.Assignment = &api.Assignment{Active: v.site(m.Location), Generation: v.Generation, Machine: m, Wanted: v.Digest(m)}
		v.Job = &api.Job{Status: api.JobStatus{Phase: api.Succeeded}}
		v.Generation++
		if i == len(ops) {
			return v
		}
		m = v.next(&api.Operation{Operation: ops[i]})
	}
}

func TestPlansOfOperations(t *testing.T) {
	const (
		fo, ch, co = api.OpFailover, api.OpChangePoint, api.OpCommit
		rp, fb, re = api.OpReprotect, api.OpFailback, api.OpReEnable
	)
	for _, c := range []struct {
		name string
		view View
		op   *api.Operation
	}{
		{"establish", view(), nil},
		{"test-failover", view().after(), &api.Operation{Operation: api.OpTestFailover}},
		{"test-failover-cleanup", view().after(api.OpTestFailover), &api.Operation{Operation: api.OpTestFailoverCleanup}},
		{"failover", view().after(), &api.Operation{Operation: fo}},
		{"failover-shutdown", view().after(), &api.Operation{Operation: fo, ShutdownSource: true}},
		{"failover-processed", view().after(), &api.Operation{Operation: fo, Point: &api.PointChoice{Kind: api.PointLatestProcessed}}},
		{"failover-source-gone", view("host1", "ps1").after(), &api.Operation{Operation: fo, ShutdownSource: true}},
		{"change-point", view().after(fo), &api.Operation{Operation: ch}},
		{"commit", view().after(fo), &api.Operation{Operation: co}},
		{"cancel-failover", view().after(fo), &api.Operation{Operation: api.OpCancelFailover}},
		{"reprotect", view().after(fo, co), &api.Operation{Operation: rp}},
		{"failback", view().after(fo, co, rp), &api.Operation{Operation: fb, ShutdownSource: true}},
		{"cancel-failback", view().after(fo, co, rp, fb), &api.Operation{Operation: api.OpCancelFailover}},
		{"reprotect-after-cancel", view().after(fo, co, rp, fb, api.OpCancelFailover), &api.Operation{Operation: rp}},
		{"commit-failback", view().after(fo, co, rp, fb), &api.Operation{Operation: co}},
		{"re-enable", view().after(fo, co, rp, fb, co), &api.Operation{Operation: re}},
		{"failover-again", view().after(fo, co, rp, fb, co, re), &api.Operation{Operation: fo}},
		{"reprotect-again", view().after(fo, co, rp, fb, co, re, fo, co), &api.Operation{Operation: rp}},
		{"pause", view().after(), &api.Operation{Operation: api.OpPause}},
		{"resync", view().after(), &api.Operation{Operation: api.OpResync}},
		{"shutdown", view().after(), &api.Operation{Operation: api.OpShutdown}},
		{"disable", view().after(), &api.Operation{Operation: api.OpDisable}},
	} {
		next := c.view.first()
		if c.op != nil {
			next = c.view.next(c.op)
		}
		got := show(c.view.Plan(c.op, next))
		file := filepath.Join("testdata", c.name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n%swant\n%s", c.name, got, want)
		}
	}
}

// show writes steps as people would read them.
func show(steps []api.Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%s (%s, within %v)", s.ID, s.Kind, s.Deadline)
		if s.Optional {
			b.WriteString(" optional")
		}
		if len(s.Needs) > 0 {
			fmt.Fprintf(&b, " after %s", strings.Join(s.Needs, ", "))
		}
		b.WriteString("\n")
		if s.Choose != nil {
			fmt.Fprintf(&b, "    choose %s of %s in vault %s\n", s.Choose.Choice.Kind, s.Choose.Stream, s.Choose.Vault.Name)
		}
		if s.Node != nil {
			for _, sec := range s.Node.Sections {
				fmt.Fprintf(&b, "    %s gen %d: %s\n", sec.Engine, sec.Generation, brief(sec))
			}
		}
		if w := s.Await; w != nil {
			fmt.Fprintf(&b, "    until %s at %s:", w.Engine, w.Node)
			for _, x := range []struct {
				is   bool
				word string
			}{{len(w.Phases) > 0, " " + strings.Join(w.Phases, " or ")}, {w.Done != "", " done " + w.Done}, {w.Stored, " stored"}, {w.Settled, " settled"}} {
				if x.is {
					b.WriteString(x.word)
				}
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func brief(s api.Section) string {
	switch {
	case s.Protect != nil:
		p := s.Protect
		out := fmt.Sprintf("%s stream %s run %v to %v", p.Mode, p.Stream, p.Run, p.ProcessServers)
		if p.PointNow+p.Restart != "" {
			out += " " + p.PointNow + p.Restart
		}
		if p.Yield != nil {
			out += fmt.Sprintf(" yield %s for %s", p.Yield.Branch, p.Yield.For)
		}
		return out
	case s.Site != nil:
		c := s.Site
		out := fmt.Sprintf("%s %s from %s@%d run %v capture %q", c.Mode, c.Instance, c.Stream, c.Seq, c.Run, c.Capture)
		if c.InPlace {
			out += " in place"
		}
		if c.Drill {
			out += " drill"
		}
		if c.Ship != nil {
			out += fmt.Sprintf(" ship to %s on %s %s@%d %s", c.Ship.Into.Name, c.Ship.Base, c.Ship.BaseStream, c.Ship.BaseSeq, c.Ship.PointNow)
		}
		if c.Yield != nil {
			out += fmt.Sprintf(" yield %s for %s", c.Yield.Branch, c.Yield.For)
		}
		return out
	}
	return ""
}

func TestADrillNeverMeetsTheMachine(t *testing.T) {
	v := view().after()
	v.Machine.Spec.VM.NICs = []api.VirtualNIC{{MAC: "52:54:00:00:00:01", Mode: api.NICTap, Tap: "t0"}}
	m := v.next(&api.Operation{Operation: api.OpTestFailover})
	if n := v.rehearsal(m).VM.NICs; len(n) != 1 || n[0].Mode != api.NICIsolated {
		t.Errorf("with a test network: %+v", n)
	}
	v.Machine.Spec.Recovery.TestNetwork = nil
	if n := v.rehearsal(m).VM.NICs; len(n) != 1 || n[0].Mode != api.NICNone {
		t.Errorf("without a test network: %+v", n)
	}
}

func TestChoose(t *testing.T) {
	at := func(h int) time.Time { return time.Date(2026, 1, 1, h, 0, 0, 0, time.UTC) }
	points := []api.RecoveryPoint{{ID: "a", Seq: 10, At: at(1), Consistency: api.AppConsistent}, {ID: "b", Seq: 20, At: at(2)}, {ID: "c", Seq: 30, At: at(3)}}
	for _, c := range []struct {
		want api.PointChoice
		id   string
	}{
		{api.PointChoice{Kind: api.PointLatest}, "c"},
		{api.PointChoice{Kind: api.PointLatestProcessed}, "c"},
		{api.PointChoice{Kind: api.PointLatestAppConsistent}, "a"},
		{api.PointChoice{Kind: api.PointCustom, ID: "b"}, "b"},
		{api.PointChoice{Kind: api.PointCustom, At: at(2).Add(time.Minute)}, "b"},
		{api.PointChoice{Kind: api.PointCustom, At: at(0)}, ""},
		{api.PointChoice{Kind: api.PointCustom, ID: "x"}, ""},
	} {
		p, err := Choose(points, c.want)
		if p.ID != c.id || (err == nil) != (c.id != "") {
			t.Errorf("%+v: %s, %v; want %q", c.want, p.ID, err, c.id)
		}
	}
}

func TestReach(t *testing.T) {
	site := func(name string, controllers, nodes []string) api.Site {
		return api.Site{Header: head(api.KindSite, name), Spec: api.SiteSpec{Controllers: controllers, Nodes: nodes}}
	}
	v := view()
	hq, dr := site("hq", []string{"c1"}, []string{"host1"}), site("dr", []string{"c2"}, []string{"host2", "keeper2"})
	witness := site("witness", []string{"c3"}, nil)
	for _, c := range []struct {
		name   string
		ground Ground
		want   string
	}{
		{"two sites and a witness", Ground{Sites: []api.Site{hq, dr, witness}, Controllers: []string{"c1", "c2", "c3"}}, ""},
		{"all at the recovery site", Ground{Sites: []api.Site{hq, dr}, Controllers: []string{"c2"}}, ""},
		{"two controllers", Ground{Sites: []api.Site{hq, dr}, Controllers: []string{"c1", "c2"}}, "StoreInReach"},
		{"nobody wrote down where the witness is", Ground{Sites: []api.Site{hq, dr}, Controllers: []string{"c1", "c2", "c3"}}, "StoreInReach"},
		{"nothing written down", Ground{Controllers: []string{"c1"}}, "StoreInReach KeyInReach KeyInReach"},
		{"remote store", Ground{Sites: []api.Site{hq, dr}, Controllers: []string{"c2"}, StoreNodes: []string{"10.0.0.1:2379"}}, "StoreInReach"},
	} {
		c.ground.Vault = v.Vault
		var codes []string
		for _, f := range Reach(v.Machine, c.ground) {
			codes = append(codes, f.Code)
		}
		if got := strings.Join(codes, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	v.Vault.Spec.Site = "hq"
	v.Machine.Spec.Overrides = []string{api.OverrideVault}
	found := Reach(v.Machine, Ground{Sites: []api.Site{hq, dr, witness}, Controllers: []string{"c1", "c2", "c3"}, Vault: v.Vault})
	if len(found) != 1 || found[0].Code != api.OverrideVault || !found[0].Overridden {
		t.Errorf("a vault at the source: %+v", found)
	}
}

// What an operator asks for takes over from a repair that runs; from anything else that runs it does not.
func TestARepairKeepsNobodyWaiting(t *testing.T) {
	for kind, taken := range map[api.JobKind]bool{api.JobRepair: true, api.JobKind(api.OpReprotect): false} {
		v := view().after(api.OpFailover, api.OpCommit)
		v.Job = &api.Job{Spec: api.JobSpec{Kind: kind}, Status: api.JobStatus{Phase: api.Running}}
		v.Request = &api.Request{Kind: api.RequestOperate, By: "o", Operation: &api.Operation{Operation: api.OpReprotect}}
		if d := Decide(v); (d.Kind == api.JobKind(api.OpReprotect)) != taken || (d.Refused == "") != taken {
			t.Errorf("while %s runs: kind %q, refused %q", kind, d.Kind, d.Refused)
		}
	}
}
