package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/objstore/open"
	"github.com/understudy-ha/understudy/server"
	"github.com/understudy-ha/understudy/vault"
)

// lost is a cluster that mirrored into a vault, and is gone.
type lost struct {
	t       *testing.T
	id      *age.X25519Identity
	dir     string // of the vault
	cluster string
	machine *api.ProtectedMachine
}

// loseCluster runs a controller with a machine, until everything of it is in the vault, and takes the controller away.
func loseCluster(t *testing.T) *lost {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	l := &lost{t: t, id: id, dir: t.TempDir()}
	l.create(l.dir)
	c, srv, end := embedded(t, t.TempDir())
	s := &site{t: t, admin: c}
	l.ground(s)
	s.apply(c, web(), provider(""), pair("", "dmz", "10"), &api.Secret{Header: head(api.KindSecret, "", "arm"), Data: map[string]string{"token": "hunter2hunter2"}})
	l.machine = s.untilMachine("set up", func(m *api.ProtectedMachine) bool { return m.Status.Assignment != nil })
	s.untilMirrored(l, func(names []string) bool { return slices.Contains(names, "ReplicationPolicy/default/long") })
	if err := c.Call(t.Context(), "DELETE", "/v1/replicationpolicies/long", nil, "*", nil, nil); err != nil {
		t.Fatal(err)
	}
	l.cluster = srv.ClusterID()
	s.untilMirrored(l, func(names []string) bool {
		return slices.Contains(names, "Secret/default/arm") && slices.Contains(names, "Mirror/default/v") && !slices.Contains(names, "ReplicationPolicy/default/long")
	})
	fillStream(t, "file://"+l.dir, id, l.machine.Status.Assignment.Machine)

	var report api.DoctorReport
	if err := c.Call(t.Context(), "GET", "/v1/doctor", nil, "", nil, &report); err != nil {
		t.Fatal(err)
	}
	for code, subject := range map[string]string{"MirrorMissing": "Vault/default/back", "MirrorFailed": "Vault/default/back"} {
		if !slices.ContainsFunc(report.Findings, func(f api.DoctorFinding) bool { return f.Code == code && f.Subject == subject }) {
			t.Errorf("doctor does not find %s of %s: %+v", code, subject, report.Findings)
		}
	}
	if slices.ContainsFunc(report.Findings, func(f api.DoctorFinding) bool { return f.Subject == "Vault/default/v" }) {
		t.Errorf("doctor finds something in the vault that is well: %+v", report.Findings)
	}
	end()
	return l
}

// ground applies what a machine refers to, with the vault.
func (l *lost) ground(s *site) {
	s.t.Helper()
	for _, o := range ground(s) {
		if v, ok := o.(*api.Vault); ok && v.Metadata.Name == "v" {
			v.Spec.URL, v.Spec.Recipient, v.Spec.CredentialsRef = "file://"+l.dir, l.id.Recipient().String(), ""
		} else if ok {
			v.Spec.KeyRef = "backkey"
			s.apply(s.admin, &api.Secret{Header: head(api.KindSecret, "", "backkey"), Data: map[string]string{"identity": "back"}})
		}
		if k, ok := o.(*api.Secret); ok {
			k.Data["identity"] = l.id.String()
		}
		s.apply(s.admin, o)
	}
}

// create makes the vault.
func (l *lost) create(dir string) {
	l.t.Helper()
	st, err := open.Store(l.t.Context(), "file://"+dir, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer st.Close()
	if _, err := vault.Create(l.t.Context(), st, l.id.Recipient().String(), vault.Options{}); err != nil {
		l.t.Fatal(err)
	}
}

// untilMirrored waits until the names in the vault are so, and the leader says that the mirror is whole.
func (s *site) untilMirrored(l *lost, ok func(names []string) bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var v api.Vault
		if err := s.admin.Call(s.t.Context(), "GET", "/v1/vaults/v", nil, "", nil, &v); err != nil {
			s.t.Fatal(err)
		}
		names := l.mirrored()
		if m := v.Status.Mirror; ok(names) && m != nil && m.Objects == len(names)-1 && slices.Equal(m.Withheld, []string{"Secret/default/backkey", "Secret/default/key"}) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("never mirrored: %v, status %+v", names, v.Status)
		}
	}
}

// mirrored lists the mirrored objects as the vault's files are named.
func (l *lost) mirrored() (names []string) {
	root := filepath.Join(l.dir, "resources")
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	return names
}

// read reads the mirror as `server recover` does.
func (l *lost) read() (*server.Mirror, error) {
	l.t.Helper()
	st, err := open.Store(l.t.Context(), "file://"+l.dir, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer st.Close()
	v, err := vault.Open(l.t.Context(), st, vault.Options{Identity: l.id})
	if err != nil {
		l.t.Fatal(err)
	}
	return server.ReadMirror(l.t.Context(), v)
}

func (l *lost) recover(dir string) (server.Recovered, error) {
	l.t.Helper()
	m, err := l.read()
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	cfg := server.Config{Name: "r1", Listen: "127.0.0.1:0", ClusterListen: "127.0.0.1:0"}
	return server.Recover(ctx, dir, server.Recovery{Mirror: m, Identity: l.id.String(), URL: "file://" + l.dir, Config: cfg}, time.Now())
}

// fillStream gives the machine's stream one point.
func fillStream(t *testing.T, url string, id *age.X25519Identity, a *api.MachineAssignment) {
	t.Helper()
	st, err := open.Store(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	v, err := vault.Open(t.Context(), st, vault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := v.Writer(t.Context(), vault.StreamSpec{ID: a.Stream, Epoch: uint64(a.Epoch), Disks: []vault.Disk{{ID: "root", Size: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if _, err = w.Append(t.Context(), []journal.Record{{Seq: 1, Kind: journal.Write, Len: 512, Data: make([]byte, 512), Time: now.UnixNano()},
		{Seq: 2, Kind: journal.Point, Time: now.UnixNano(), Point: &journal.PointInfo{ID: "p1", At: now, Consistency: journal.Crash}}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRecoverFromTheVaultAlone loses every controller and builds a new one from the vault and its key.
func TestRecoverFromTheVaultAlone(t *testing.T) {
	l := loseCluster(t)
	if all := readAll(t, l.dir); bytes.Contains(all, []byte("hunter2")) || bytes.Contains(all, []byte("host1")) {
		t.Error("the vault shows what is mirrored")
	}
	dir := filepath.Join(t.TempDir(), "new")
	out, err := l.recover(dir)
	if err != nil {
		t.Fatal(err)
	}
	if lead.ClusterSerial(out.ClusterID) != lead.ClusterSerial(l.cluster)+1 {
		t.Errorf("cluster %s comes after %s", out.ClusterID, l.cluster)
	}
	if !slices.Equal(out.Missing, []string{"Secret/default/backkey, which Vault/default/back needs"}) {
		t.Errorf("missing %q", out.Missing)
	}
	if _, err := l.recover(dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("recovered over a controller: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	c, srv, _ := embedded(t, dir)
	if srv.ClusterID() != out.ClusterID {
		t.Errorf("runs as %s, want %s", srv.ClusterID(), out.ClusterID)
	}
	if e := epoch(t, c); e <= 1<<20 {
		t.Errorf("epoch %d", e)
	}
	s := &site{t: t, admin: c}
	m := s.untilMachine("recoverable", func(m *api.ProtectedMachine) bool { return slices.Contains(m.Status.AllowedOperations, api.OpFailover) })
	am, was := m.Status.Assignment.Machine, l.machine.Status.Assignment.Machine
	if m.Spec.UID != l.machine.Spec.UID || am.Stream != was.Stream || am.Epoch != was.Epoch || am.Location != api.Primary || m.Status.Assignment.Generation <= 1<<20 {
		t.Errorf("assignment %+v of %+v", am, m.Status.Assignment)
	}
	if m.Status.ProtectionState != api.Protected || m.Status.CurrentScenario != nil {
		t.Errorf("status %+v", m.Status)
	}
	var points api.PointList
	if err := c.Call(t.Context(), "GET", "/v1/protectedmachines/web/points", nil, "", nil, &points); err != nil || len(points.Items) != 1 || points.Items[0].ID != "p1" {
		t.Fatalf("points %+v, %v", points, err)
	}
	twin := web()
	twin.Metadata.Name = "twin"
	_, _, err = c.Apply(t.Context(), twin, false)
	wantCode(t, err, api.CodeInvalid, "ProtectedMachine/default/web has it")
	if g, err := c.Group(t.Context(), "", "dmz"); err != nil || !g.Spec.Paused {
		t.Errorf("group %+v, %v", g, err)
	}
	// The new controller mirrors too, over what the old one left.
	before := m.Status.Assignment.Generation
	if err := c.Call(t.Context(), "POST", "/v1/protectedmachines/web/operations", nil, "", api.Operation{Operation: api.OpFailover}, nil); err != nil {
		t.Fatal(err)
	}
	m = s.untilMachine("moving", func(m *api.ProtectedMachine) bool {
		a := m.Status.Assignment
		return m.Status.ActiveLocation == api.Recovery && a.Machine.Run != nil && a.Machine.Run.Point != nil
	})
	if a := m.Status.Assignment; a.Generation != before+1 || a.Machine.Epoch != a.Generation || a.Machine.Run.Point.ID != "p1" || a.Machine.Stream != m.Spec.UID+"-2" {
		t.Errorf("assignment %+v %+v", a, a.Machine)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got, err := l.read()
		if err != nil {
			t.Fatal(err)
		}
		if got.ClusterID == out.ClusterID && slices.ContainsFunc(got.Objects, func(o api.Object) bool {
			m, ok := o.(*api.ProtectedMachine)
			return ok && m.Status.Assignment.Machine.Location == api.Recovery
		}) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the new controller does not mirror: %+v", got)
		}
	}
}

// TestOneClusterMirrors: a vault in which another cluster mirrors is left to it, until nothing is heard of it any more.
func TestOneClusterMirrors(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	l := &lost{t: t, id: id, dir: t.TempDir()}
	l.create(l.dir)
	letter := func(at time.Time) {
		t.Helper()
		path := filepath.Join(l.dir, "mailbox", "mirror", "default")
		text := fmt.Sprintf(`{"format":"understudy-mirror/1","clusterID":"9-ffffffffffff","epoch":1,"at":%q}`, at.UTC().Format(time.RFC3339))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	letter(time.Now())
	c, _, _ := embedded(t, t.TempDir())
	s := &site{t: t, admin: c}
	l.ground(s)
	s.apply(c, web())
	until := func(what string, ok func(api.VaultStatus) bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			var v api.Vault
			if err := c.Call(t.Context(), "GET", "/v1/vaults/v", nil, "", nil, &v); err != nil {
				t.Fatal(err)
			}
			if ok(v.Status) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("never %s: %+v", what, v.Status)
			}
		}
	}
	until("refused", func(st api.VaultStatus) bool {
		return len(st.Conditions) == 1 && st.Conditions[0].Code == "MirrorFailed" && strings.Contains(st.Conditions[0].Message, "cluster 9-ffffffffffff has mirrored there")
	})
	if names := l.mirrored(); len(names) != 0 {
		t.Errorf("mirrored all the same: %v", names)
	}
	letter(time.Now().Add(-time.Hour))
	until("taken over", func(st api.VaultStatus) bool { return len(st.Conditions) == 0 && st.Mirror != nil })
}

// TestRecoverNamesWhatIsNotWhole damages, removes and sets back parts of a mirror: each is named, the others are used.
func TestRecoverNamesWhatIsNotWhole(t *testing.T) {
	l := loseCluster(t)
	path := func(name string) string { return filepath.Join(l.dir, "resources", filepath.FromSlash(name)) }
	b, err := os.ReadFile(path("Node/default/ps2"))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := errors.Join(os.WriteFile(path("Node/default/ps2"), b, 0o600), os.Remove(path("Fabric/default/hq"))); err != nil {
		t.Fatal(err)
	}
	m, err := l.read()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Unused) != 2 || !strings.HasPrefix(m.Unused[0], "Fabric/default/hq: it is missing") || !strings.HasPrefix(m.Unused[1], "Node/default/ps2: it is damaged") {
		t.Errorf("unused %q", m.Unused)
	}
	dir := filepath.Join(t.TempDir(), "new")
	out, err := l.recover(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Fabric/default/hq, which ProtectedMachine/default/web needs", "Node/default/ps2, which ProcessServer/default/ps2 needs"} {
		if !slices.Contains(out.Missing, want) {
			t.Errorf("%q is not among the missing %q", want, out.Missing)
		}
	}
	c, _, _ := embedded(t, dir)
	s := &site{t: t, admin: c}
	s.untilMachine("recoverable", func(m *api.ProtectedMachine) bool { return slices.Contains(m.Status.AllowedOperations, api.OpFailover) })

	// A list that is damaged too leaves everything else to be used.
	if err := os.WriteFile(path("Mirror/default/v"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err = l.read(); err != nil || !slices.ContainsFunc(m.Unused, func(u string) bool { return strings.HasPrefix(u, "Mirror/default/v: it is damaged") }) {
		t.Errorf("%+v, %v", m, err)
	}
	if err := os.RemoveAll(filepath.Join(l.dir, "resources")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.read(); !errors.Is(err, server.ErrNoMirror) {
		t.Errorf("an empty vault: %v", err)
	}
}
