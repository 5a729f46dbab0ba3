package server_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/server"
)

// small limits put a file aside after six entries or so.
var small = server.AuditLimits{FileBytes: 1500, Keep: 3}

// fill writes entries named 1 to n after opening the audit under small limits, and closes it.
func fill(t *testing.T, path string, n int) {
	t.Helper()
	a, err := server.OpenAudit(path, small, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := a.Write(api.AuditEntry{Actor: "ann", Verb: "update", Object: fmt.Sprint(i + 1), Outcome: "ok"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func entriesOf(t *testing.T, path string) (all []api.AuditEntry, err error) {
	t.Helper()
	err = server.ReadAuditFiles(path, func(e api.AuditEntry) error { all = append(all, e); return nil })
	return all, err
}

func filesOf(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAuditGoesOnInAnotherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit", "audit.log")
	fill(t, path, 8)
	if all, err := entriesOf(t, path); err != nil || all[0].Seq != 1 || len(filesOf(t, path)) != 2 {
		t.Fatalf("after 8 entries: %v from %d, %v; want audit.log and one that was put aside", filesOf(t, path), all[0].Seq, err)
	}
	fill(t, path, 32)
	names := filesOf(t, path)
	if len(names) != 1+small.Keep || !slices.Contains(names, "audit.log") {
		t.Fatalf("after 40 entries: %v; want audit.log and %d that were put aside", names, small.Keep)
	}
	all, err := entriesOf(t, path)
	if err != nil || all[0].Seq == 1 || all[0].Verb != "rotate" {
		t.Fatalf("the oldest file kept begins with %+v, %v", all[0], err)
	}
	var objects []string
	for i, e := range all {
		if e.Seq != all[0].Seq+int64(i) {
			t.Errorf("entry %d has number %d", i, e.Seq)
		}
		if e.Verb == "update" {
			objects = append(objects, e.Object)
		}
	}
	if last := all[len(all)-1]; last.Object != "32" || len(objects) < 6 {
		t.Errorf("kept %v, the last entry is %+v", objects, last)
	}
	newest := all[slices.IndexFunc(all, func(e api.AuditEntry) bool { return e.Verb == "rotate" && e.Seq > all[1].Seq })]
	if !strings.Contains(newest.Detail, "audit-") || !strings.Contains(newest.Detail, "is deleted") {
		t.Errorf("the rotation says %q; want the file before and the one that is deleted", newest.Detail)
	}
	for _, name := range names {
		if err := server.ReadAudit(filepath.Join(filepath.Dir(path), name), func(api.AuditEntry) error { return nil }); err != nil {
			t.Errorf("%s by itself: %v", name, err)
		}
	}
}

func TestAuditShowsTamperingWithFiles(t *testing.T) {
	for name, tamper := range map[string]func(dir string, names []string) error{
		"file in the middle taken out": func(dir string, names []string) error { return os.Remove(filepath.Join(dir, names[1])) },
		"files swapped": func(dir string, names []string) error {
			a, b, c := filepath.Join(dir, names[0]), filepath.Join(dir, names[1]), filepath.Join(dir, "c")
			return errors.Join(os.Rename(a, c), os.Rename(b, a), os.Rename(c, b))
		},
		"head of a file taken off": func(dir string, names []string) error {
			p := filepath.Join(dir, names[0])
			b, err := os.ReadFile(p)
			_, rest, _ := strings.Cut(string(b), "\n")
			return errors.Join(err, os.WriteFile(p, []byte(rest), 0o600))
		},
		"end of a file cut off": func(dir string, names []string) error {
			p := filepath.Join(dir, names[0])
			b, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(p, b[:len(b)-4], 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit", "audit.log")
			fill(t, path, 40)
			if err := tamper(filepath.Dir(path), filesOf(t, path)); err != nil {
				t.Fatal(err)
			}
			var broken *server.BrokenChain
			if _, err := entriesOf(t, path); !errors.As(err, &broken) {
				t.Errorf("got %v, want a broken chain", err)
			}
		})
	}
}

// A crash may come after each step of putting a file aside.
func TestAuditGoesOnAfterACrashBetweenFiles(t *testing.T) {
	for name, left := range map[string]string{"no new file": "-", "an empty file": "", "a first line cut short": `{"seq":4,"at":"2026-`} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit", "audit.log")
			fill(t, path, 3)
			if err := os.Rename(path, filepath.Join(filepath.Dir(path), "audit-000000000001.log")); err != nil {
				t.Fatal(err)
			}
			if left != "-" {
				if err := os.WriteFile(path, []byte(left), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			fill(t, path, 1)
			all, err := entriesOf(t, path)
			if err != nil || all[3].Verb != "rotate" || all[len(all)-1].Seq != int64(len(all)) {
				t.Fatalf("%+v, %v", all, err)
			}
		})
	}
}

func TestNewestAuditEntriesComeFromSeveralFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit", "audit.log")
	a, err := server.OpenAudit(path, small, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for i := range 10 {
		if err := a.Write(api.AuditEntry{Verb: "update", Object: fmt.Sprint(i + 1), Outcome: "ok"}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Newest(5, func(e api.AuditEntry) bool { return e.Verb == "update" })
	if err != nil || len(got) != 5 || got[0].Object != "6" || got[4].Object != "10" {
		t.Errorf("the newest 5: %+v, %v", got, err)
	}
}
