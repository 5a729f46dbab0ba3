package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore/dir"
	"github.com/understudy-ha/understudy/vault"
)

// runVerb runs one command line in this process.
func runVerb(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	c := &console{in: strings.NewReader(""), out: &out, err: &errs}
	root := newRoot(c)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	if err != nil {
		c.complain(err)
	}
	return out.String(), errs.String(), exitCode(err)
}

func ok(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, code := runVerb(t, args...)
	if code != 0 {
		t.Fatalf("understudy %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// fillVault writes a stream of three writes and two recovery points.
func fillVault(t *testing.T, path string) {
	t.Helper()
	s, err := dir.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, err := vault.Open(t.Context(), s, vault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := v.Writer(t.Context(), vault.StreamSpec{ID: "db-1", Epoch: 1, Machine: vault.Machine{UID: "db", Name: "db"}, Disks: []vault.Disk{{ID: "root", Size: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	write := func(seq uint64, off int64, b byte) journal.Record {
		return journal.Record{Seq: seq, Kind: journal.Write, Off: off, Len: 512, Data: bytes.Repeat([]byte{b}, 512)}
	}
	point := func(seq uint64, id string) journal.Record {
		return journal.Record{Seq: seq, Kind: journal.Point, Point: &journal.PointInfo{ID: id, At: time.Unix(1_800_000_000, 0).UTC(), Consistency: journal.App}}
	}
	if _, err := w.Append(t.Context(), []journal.Record{write(1, 0, 'a'), point(2, "first"), write(3, 0, 'b'), write(4, 4096, 'c'), point(5, "second")}); err != nil {
		t.Fatal(err)
	}
}

func TestVaultFromKeyToExport(t *testing.T) {
	at := func(name string) string { return filepath.Join(t.TempDir(), name) }
	key, store := at("site.key"), t.TempDir()
	in := []string{"--vault", "file://" + store, "--key", key}
	with := func(verb string, more ...string) []string {
		return append(append([]string{"vault", verb}, in...), more...)
	}

	recipient := strings.TrimSpace(ok(t, "vault", "keygen", "--out", key))
	if i, err := os.Stat(key); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v %v", i.Mode(), err)
	}
	ok(t, "vault", "create", "--vault", "file://"+store, "--recipient", recipient)
	if _, errs, code := runVerb(t, "vault", "create", "--vault", "file://"+store, "--recipient", recipient); code != exitConflict || !strings.Contains(errs, "exists already") {
		t.Errorf("a second create: %d %s", code, errs)
	}
	fillVault(t, store)

	if out := ok(t, with("inspect")...); !strings.Contains(out, "db-1") {
		t.Errorf("inspect:\n%s", out)
	}
	if out := ok(t, with("inspect", "--stream", "db-1")...); !strings.Contains(out, "second") || !strings.Contains(out, "2027-01-15T08:00:00Z") {
		t.Errorf("inspect the stream:\n%s", out)
	}
	var verified struct{ Problems int }
	if err := json.Unmarshal([]byte(ok(t, with("verify", "--json")...)), &verified); err != nil || verified.Problems != 0 {
		t.Errorf("verify: %+v %v", verified, err)
	}
	first, second, log := at("first.raw"), at("second.raw"), at("root.log")
	ok(t, with("export", "--stream", "db-1", "--point", "first", "--out", first)...)
	ok(t, with("export", "--stream", "db-1", "--out", second, "--cache", at("cache"))...)
	ok(t, with("export", "--stream", "db-1", "--out", log, "--format", "log")...)
	want := make([]byte, 1<<20)
	copy(want, bytes.Repeat([]byte{'a'}, 512))
	if got, err := os.ReadFile(first); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the first point's image differs: %v", err)
	}
	copy(want, bytes.Repeat([]byte{'b'}, 512))
	copy(want[4096:], bytes.Repeat([]byte{'c'}, 512))
	if got, err := os.ReadFile(second); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the second point's image differs: %v", err)
	}

	segments, err := filepath.Glob(filepath.Join(store, "streams/db-1/segments/*"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	object := strings.TrimPrefix(segments[0], store+"/")
	if out := ok(t, with("inspect", "--object", object)...); !strings.Contains(out, `"write": 3`) {
		t.Errorf("inspect the segment:\n%s", out)
	}
	if err := os.Truncate(segments[0], 300); err != nil {
		t.Fatal(err)
	}
	out, errs, code := runVerb(t, with("verify")...)
	if code != 1 || !strings.Contains(out, object) || !strings.Contains(errs, "1 object is damaged") {
		t.Errorf("verify what is damaged: %d\n%s%s", code, out, errs)
	}
}
