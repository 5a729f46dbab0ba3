package server_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/objstore/memory"
	"github.com/understudy-ha/understudy/server"
	"github.com/understudy-ha/understudy/vault"
)

// shelf is a vault in memory, into which mirrors are put by hand.
type shelf struct {
	t testing.TB
	v *vault.Vault
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Create(t.Context(), memory.New(nil), id.Recipient().String(), vault.Options{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	return &shelf{t, v}
}

func (s *shelf) put(name, doc string) {
	s.t.Helper()
	p := strings.Split(name, "/")
	if err := s.v.PutResource(s.t.Context(), vault.Resource{Kind: p[0], Tenant: p[1], Name: p[2], Data: []byte(doc)}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) read() *server.Mirror {
	s.t.Helper()
	m, err := server.ReadMirror(s.t.Context(), s.v)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// names of what a mirror gives.
func names(m *server.Mirror) (out []string) {
	for _, o := range m.Objects {
		out = append(out, o.Head().Ref().String())
	}
	return out
}

func mirrorExamples(t testing.TB) (doc, list string) {
	t.Helper()
	blocks := examples(t, "mirror.md")
	return strings.TrimSpace(blocks[0]), strings.TrimSpace(blocks[1])
}

const gold = "ReplicationPolicy/default/gold"

func TestMirrorPageTellsTheTruth(t *testing.T) {
	doc, list := mirrorExamples(t)
	s := newShelf(t)
	s.put(gold, doc)
	s.put("Mirror/default/v", list)
	m := s.read()
	if !slices.Equal(names(m), []string{gold}) || len(m.Unused) != 0 || len(m.Doubtful) != 0 {
		t.Fatalf("%v, unused %q, doubtful %q", names(m), m.Unused, m.Doubtful)
	}
	if m.ClusterID != "1-0123456789ab" || m.Epoch != 7 || m.At.Year() != 2026 || !slices.Equal(m.Withheld, []string{"Secret/default/key"}) {
		t.Errorf("%+v", m)
	}
	if p := m.Objects[0].(*api.ReplicationPolicy); p.Metadata.Generation != 2 || p.Spec.RPOThreshold == 0 {
		t.Errorf("policy %+v", p)
	}
}

// TestMirrorTurns: what a list and a resource say of each other decides what is used.
func TestMirrorTurns(t *testing.T) {
	doc, list := mirrorExamples(t)
	other := func(name string) string { return strings.Replace(doc, `"gold"`, `"`+name+`"`, 1) }
	at := func(doc, turn string) string { return strings.Replace(doc, `"epoch":7,"round":3`, turn, 1) }
	for _, c := range []struct {
		what                   string
		name, doc              string
		used                   bool
		unusedHas, doubtfulHas string
	}{
		{"named with another hash, after the list", gold, at(doc, `"epoch":8,"round":1`), true, "", ""},
		{"named with another hash, before the list", gold, at(doc, `"epoch":7,"round":2`), true, "", gold + ": it is not the one of the list (epoch 7, round 4) but of epoch 7, round 2"},
		{"not named, after the list", "ReplicationPolicy/default/new", at(other("new"), `"epoch":7,"round":5`), true, gold + ": it is missing", ""},
		{"not named, before the list", "ReplicationPolicy/default/old", other("old"), false, gold + ": it is missing", ""},
		{"of another format", gold, strings.Replace(doc, "mirror/1", "mirror/2", 1), false, gold + `: format "understudy-mirror/2"`, ""},
		{"under another's name", gold, at(other("new"), `"epoch":8,"round":1`), false, gold + ": it does not read", ""},
		{"with a field that is not known", gold, at(strings.Replace(doc, "retention", "retentions", 1), `"epoch":8,"round":1`), false, "spec.retentions", ""},
		{"not valid", gold, at(strings.Replace(doc, "24h", "24000h", 1), `"epoch":8,"round":1`), false, "spec.retention", ""},
		{"no JSON", gold, "x", false, gold + `: format ""`, ""},
	} {
		s := newShelf(t)
		s.put("Mirror/default/v", list)
		s.put("Mirror/default/w", strings.Replace(list, `"round":4`, `"round":1`, 1)) // an older one counts for nothing
		s.put(c.name, c.doc)
		m := s.read()
		has := func(lines []string, part string) bool {
			return (part == "") == (len(lines) == 0) && slices.ContainsFunc(append(lines, ""), func(l string) bool { return strings.Contains(l, part) })
		}
		if used := slices.Contains(names(m), c.name); used != c.used || !has(m.Unused, c.unusedHas) || !has(m.Doubtful, c.doubtfulHas) {
			t.Errorf("%s: used %v, unused %q, doubtful %q", c.what, used, m.Unused, m.Doubtful)
		}
	}
}

// TestRecoveryBeginsAfterTheMirror: whatever the vault's streams and the mirror say, what comes next is newer.
func TestRecoveryBeginsAfterTheMirror(t *testing.T) {
	m := web()
	m.Spec.UID = "u"
	m.Status.Assignment = &api.Assignment{Generation: 4, Machine: &api.MachineAssignment{UID: "u", Stage: api.StageProtected, Location: api.Primary, Named: 1, Stream: "u-1", Epoch: 2}}
	bare := web()
	bare.Metadata.Name, bare.Spec.UID = "bare", "b"
	vlt := &api.Vault{Header: head(api.KindVault, "", "v"), Spec: api.VaultSpec{Site: "dr", URL: "s3://old", Recipient: "age1x", KeyRef: "key", CredentialsRef: "s3"}}
	far := &api.Vault{Header: head(api.KindVault, "", "far"), Spec: api.VaultSpec{URL: "s3://far", Recipient: "age1y", KeyRef: "farkey"}}
	hq := &api.Site{Header: head(api.KindSite, "", "hq"), Spec: api.SiteSpec{Controllers: []string{"c1", "c2"}}}
	dr := &api.Site{Header: head(api.KindSite, "", "dr"), Spec: api.SiteSpec{Controllers: []string{"c3"}}}
	plan := &api.RecoveryPlan{Header: head(api.KindRecoveryPlan, "", "shop"), Status: api.RecoveryPlanStatus{Assignment: &api.Assignment{Generation: 9}}}
	for _, o := range []api.Object{m, bare, vlt, far, hq, dr, plan} {
		o.Head().Metadata.Tenant = "default"
	}
	r := server.Recovery{Identity: "AGE-SECRET-KEY-1", URL: "s3://new", Credentials: map[string]string{"accessKeyID": "k"}, Mirror: &server.Mirror{
		Root: vault.Root{Recipient: "age1x"}, Objects: []api.Object{m, bare, vlt, far, hq, dr, plan},
		Streams: map[string]vault.StreamInfo{"u-1": {ID: "u-1", Epoch: 2}, "u-3": {ID: "u-3", Epoch: 5 << 20}, "u-b9": {}, "b-1": {ID: "b-1", Epoch: 3}}}}
	objects, out := r.Prepare()
	got := map[string]api.Object{}
	for _, o := range objects {
		got[o.Head().Ref().String()] = o
	}
	a := got["ProtectedMachine/default/web"].(*api.ProtectedMachine).Status.Assignment
	if a.Generation != 6<<20 || a.Machine.Named != 3 || a.Machine.Stream != "u-1" || a.Machine.Epoch != 2 {
		t.Errorf("web: %+v %+v", a, a.Machine)
	}
	if b := got["ProtectedMachine/default/bare"].(*api.ProtectedMachine).Status.Assignment; b.Machine.Stream != "b-1" || b.Machine.Epoch != 3 || b.Generation <= 1<<20 || b.Active != "hq" {
		t.Errorf("bare: %+v %+v", b, b.Machine)
	}
	if a := got["RecoveryPlan/default/shop"].(*api.RecoveryPlan).Status.Assignment; a.Generation != 1<<20+9 {
		t.Errorf("plan: %+v", a)
	}
	if v := got["Vault/default/v"].(*api.Vault); v.Spec.URL != "s3://new" || vlt.Spec.URL != "s3://old" {
		t.Errorf("vault at %s, mirrored as %s", v.Spec.URL, vlt.Spec.URL)
	}
	if k := got["Secret/default/key"].(*api.Secret); k.Data["identity"] != "AGE-SECRET-KEY-1" || k.Kind != api.KindSecret {
		t.Errorf("key %+v", k.Header)
	}
	if got["Secret/default/s3"].(*api.Secret).Data["accessKeyID"] != "k" || got["Secret/default/farkey"] != nil {
		t.Error("the credentials, or another vault's key")
	}
	sites, err := json.Marshal([]any{got["Site/default/hq"].(*api.Site).Spec.Controllers, got["Site/default/dr"].(*api.Site).Spec.Controllers})
	if err != nil || string(sites) != `[["c2"],["c3","c1"]]` {
		t.Errorf("controllers stand at %s", sites)
	}
	if a := m.Status.Assignment; a.Generation != 4 || a.Machine.Named != 1 || len(hq.Spec.Controllers) != 2 {
		t.Error("the mirror was changed")
	}
	for _, want := range []string{"Secret/default/farkey, which Vault/default/far needs", "ProcessServer/default/ps1, which ProtectedMachine/default/bare needs"} {
		if !slices.Contains(out.Missing, want) {
			t.Errorf("%q is not among the missing: %q", want, out.Missing)
		}
	}
}

// TestRecoveryKnowsItsVault: the vaults of a site have one key, and often those of both sites do. Only the one that was recovered from moves, and
// only its site gets the controller.
func TestRecoveryKnowsItsVault(t *testing.T) {
	for _, c := range []struct {
		what, url, named string
		want             map[string]string
	}{
		{"the list names it, it was moved", "s3://new", "v2", map[string]string{"v1": "s3://one", "v2": "s3://new"}},
		{"the list names it", "s3://two", "v2", map[string]string{"v1": "s3://one", "v2": "s3://two"}},
		{"no list, known by its address", "s3://two", "", map[string]string{"v1": "s3://one", "v2": "s3://two"}},
		{"the list names one that is not there", "s3://two", "v9", map[string]string{"v1": "s3://one", "v2": "s3://two"}},
	} {
		var objects []api.Object
		for name, url := range map[string]string{"v1": "s3://one", "v2": "s3://two"} {
			objects = append(objects, &api.Vault{Header: head(api.KindVault, "default", name), Spec: api.VaultSpec{Site: "site-" + name, URL: url, Recipient: "age1x", KeyRef: "key"}},
				&api.Site{Header: head(api.KindSite, "default", "site-"+name)})
		}
		r := server.Recovery{Identity: "AGE-SECRET-KEY-1", URL: c.url, Mirror: &server.Mirror{Root: vault.Root{Recipient: "age1x"}, Objects: objects, Vaults: map[string]string{"default": c.named}}}
		out, _ := r.Prepare()
		for _, o := range out {
			switch o := o.(type) {
			case *api.Vault:
				if o.Spec.URL != c.want[o.Metadata.Name] {
					t.Errorf("%s: %s is at %s", c.what, o.Metadata.Name, o.Spec.URL)
				}
			case *api.Site:
				if has := len(o.Spec.Controllers) > 0; has != (o.Metadata.Name == "site-v2") {
					t.Errorf("%s: controllers of %s: %v", c.what, o.Metadata.Name, o.Spec.Controllers)
				}
			}
		}
	}
}

func FuzzReadMirror(f *testing.F) {
	doc, list := mirrorExamples(f)
	f.Add(doc, list)
	f.Add(`{"format":"understudy-mirror/1","object":{"kind":"Node"}}`, `{"format":"understudy-mirror/1","tenant":"default"}`)
	f.Fuzz(func(t *testing.T, doc, list string) {
		s := newShelf(t)
		s.put(gold, doc)
		s.put("Mirror/default/v", list)
		m := s.read()
		if n := names(m); len(n) > 1 || len(n) == 1 && n[0] != gold {
			t.Fatalf("names %v", n)
		}
		r := server.Recovery{Mirror: m}
		r.Prepare()
	})
}
