package vault

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/faulty"
	"github.com/understudy-ha/understudy/objstore/memory"
)

// damageable is a vault with layers, segments and points, on a store whose objects can be damaged.
func damageable(t *testing.T, seed uint64) (*Vault, *faulty.Store, *model) {
	t.Helper()
	s := faulty.New(memory.New(nil), faulty.Config{Seed: seed})
	v := testVault(t, s, small())
	m := &model{disks: testDisks()}
	w := openWriter(t, v, spec("m-1", 1))
	r := rand.New(rand.NewPCG(seed, 9))
	for range 14 {
		appendAll(t, w, m.more(r, 12))
		if _, err := v.Compact(t.Context(), "m-1"); err != nil {
			t.Fatal(err)
		}
	}
	return v, s, m
}

// referred lists the objects that hold records, and what their group is.
func (s *state) objects(t *testing.T, v *Vault) map[string]string {
	t.Helper()
	out := map[string]string{}
	for i := range s.segments {
		key := segmentKey(s.Stream, &s.segments[i])
		out[key] = key
	}
	for i := range s.layers {
		l := &s.layers[i]
		out[indexKey(s.Stream, l.Name)] = layerKey(s.Stream, l.Name)
		for n := range l.Parts {
			out[partKey(s.Stream, l.Name, n)] = layerKey(s.Stream, l.Name)
		}
	}
	return out
}

func TestDamageIsNamedAndNothingElseIsLost(t *testing.T) {
	kinds := map[string]func(*faulty.Store, string, string) error{
		"corrupt":  func(s *faulty.Store, key, _ string) error { return s.Corrupt(t.Context(), key) },
		"truncate": func(s *faulty.Store, key, _ string) error { return s.Truncate(t.Context(), key) },
		"drop":     func(s *faulty.Store, key, _ string) error { return s.Drop(t.Context(), key) },
		"swap":     func(s *faulty.Store, key, other string) error { return s.Swap(t.Context(), key, other) },
		"other key": func(s *faulty.Store, key, _ string) error {
			b, err := journal.Seal(journal.Binding{Type: journal.SegmentObject, Vault: "x", Stream: "y"}, []byte("z"), testKey(t).Recipient())
			if err == nil {
				_, err = s.Put(t.Context(), key, b, objstore.Always)
			}
			return err
		},
	}
	seed := uint64(0)
	for kind, damage := range kinds {
		seed++
		v, s, m := damageable(t, seed)
		st, err := v.load(t.Context(), "m-1")
		if err != nil {
			t.Fatal(err)
		}
		objects := st.objects(t, v)
		keys := []string{}
		for key := range objects {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		r := rand.New(rand.NewPCG(seed, 10))
		hit := map[string]bool{}
		i := r.IntN(len(keys) - 1)
		if err := damage(s, keys[i], keys[i+1]); err != nil {
			t.Fatal(err)
		}
		damaged := keys[i : i+1]
		if kind == "swap" {
			damaged = keys[i : i+2] // of an index and a part of its layer, the index is named alone
		}
		for _, key := range damaged {
			hit[objects[key]] = true
		}
		report, err := v.Verify(t.Context(), "m-1", nil)
		if err != nil || len(report.Problems) == 0 || !slices.Contains(damaged, report.Problems[0].Object) {
			t.Errorf("%s of %s: %+v %v", kind, keys[i], report.Problems, err)
		}
		checkOthersRead(t, kind, v, m, st, hit)
	}
}

// checkOthersRead: positions that need a damaged object fail and name it; all others read.
func checkOthersRead(t *testing.T, kind string, v *Vault, m *model, st *state, hit map[string]bool) {
	t.Helper()
	all := st.paths()
	for _, seq := range st.needs() {
		steps, _ := all.to(seq)
		needs := slices.ContainsFunc(st.keysOf(steps), func(k string) bool { return hit[k] })
		w, err := v.View(t.Context(), "m-1", seq)
		if err == nil {
			err = m.compare(t.Context(), w)
			w.Close()
		}
		named := false
		for k := range hit {
			named = named || err != nil && strings.Contains(err.Error(), k)
		}
		if needs && err != nil && (!Damage(err) || !named) || !needs && err != nil {
			t.Errorf("%s: position %d, which needs it: %t: %v", kind, seq, needs, err)
		}
	}
}

func TestADamagedHeadIsRefusedByName(t *testing.T) {
	v, s, _ := damageable(t, 77)
	if err := s.Truncate(t.Context(), headKey("m-1")); err != nil {
		t.Fatal(err)
	}
	_, err := v.Points(t.Context(), "m-1")
	if !errors.Is(err, journal.ErrCorrupt) || !strings.Contains(err.Error(), headKey("m-1")) {
		t.Errorf("%v", err)
	}
	r, err := v.Verify(t.Context(), "m-1", nil)
	if err != nil || len(r.Problems) != 1 || r.Problems[0].Class != "corrupt" {
		t.Errorf("%+v %v", r, err)
	}
}

func TestAnotherVaultsKeyIsRefusedAtOnce(t *testing.T) {
	_, s := memoryVault(t, small())
	if _, err := Open(t.Context(), s, Options{Identity: testKey(t)}); !errors.Is(err, journal.ErrWrongKey) {
		t.Errorf("%v", err)
	}
	v, err := Open(t.Context(), s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	openWriter(t, v, spec("m-1", 1))
	if _, err := v.View(t.Context(), "m-1", 0); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("view without a key: %v", err)
	}
	if _, err := Create(t.Context(), s, testKey(t).Recipient().String(), Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("create over a vault: %v", err)
	}
	if _, err := Open(t.Context(), memory.New(nil), Options{}); !errors.Is(err, ErrNoVault) {
		t.Errorf("open nothing: %v", err)
	}
}

func TestMailAndResources(t *testing.T) {
	v, s := memoryVault(t, small())
	ctx := t.Context()
	if err := v.PutMail(ctx, "m-1", "reprotect", []byte("ranges")); err != nil {
		t.Fatal(err)
	}
	b, err := v.GetMail(ctx, "m-1", "reprotect")
	names, err2 := v.Mails(ctx, "m-1")
	if string(b) != "ranges" || !slices.Equal(names, []string{"reprotect"}) || err != nil || err2 != nil {
		t.Errorf("%q %q %v %v", b, names, err, err2)
	}
	if err := v.DeleteMail(ctx, "m-1", "reprotect"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.GetMail(ctx, "m-1", "reprotect"); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := v.GetMail(ctx, "m-1", "a/b"); !errors.Is(err, objstore.ErrInvalid) {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"db", "web"} {
		if err := v.PutResource(ctx, Resource{"ProtectedMachine", "default", name, []byte("spec of " + name)}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := v.Resources(ctx)
	if err != nil || len(got) != 2 || got[1].Name != "web" || string(got[1].Data) != "spec of web" {
		t.Errorf("%+v %v", got, err)
	}
	// A resource under another's name is refused by name; the other is still there.
	web, _, err := s.Get(ctx, "resources/ProtectedMachine/default/web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "resources/ProtectedMachine/default/db", web, objstore.Always); err != nil {
		t.Fatal(err)
	}
	got, err = v.Resources(ctx)
	if !errors.Is(err, journal.ErrReplayed) || len(got) != 1 {
		t.Errorf("%+v %v", got, err)
	}
	if err := v.PutResource(ctx, Resource{Kind: "ProtectedMachine", Tenant: "default", Name: "db"}); err != nil {
		t.Fatal(err)
	}
	if got, err = v.Resources(ctx); err != nil || len(got) != 1 {
		t.Errorf("%+v %v", got, err)
	}
}
