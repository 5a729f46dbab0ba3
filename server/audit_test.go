package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/server"
)

// roomy limits put no file aside.
var roomy = server.AuditLimits{FileBytes: 1e6, Keep: 1}

func writeAudit(t *testing.T, path string, verbs ...string) {
	t.Helper()
	a, err := server.OpenAudit(path, roomy, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verbs {
		if err := a.Write(api.AuditEntry{Actor: "ann", Verb: v, Outcome: "ok"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAuditShowsTampering(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	writeAudit(t, path, "create", "update")
	writeAudit(t, path, "delete", "create")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(whole), "\n"), "\n")
	lines[3] += "\n"
	for _, c := range []struct {
		name, text string
		line       int64 // 0: good
	}{
		{"untouched", string(whole), 0},
		{"changed", strings.Replace(string(whole), `"delete"`, `"read"`, 1), 3},
		{"line taken out", lines[0] + lines[2] + lines[3], 2},
		{"lines swapped", lines[0] + lines[2] + lines[1] + lines[3], 2},
		{"line put in", lines[0] + lines[0] + lines[1], 2},
		{"head taken off", lines[1] + lines[2] + lines[3], 1},
		{"field added", strings.Replace(string(whole), `{"seq":2`, `{"x":1,"seq":2`, 1), 2},
		{"cut short", string(whole[:len(whole)-5]), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "audit.log")
			if err := os.WriteFile(p, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := server.ReadAudit(p, func(api.AuditEntry) error { return nil })
			var broken *server.BrokenChain
			switch {
			case c.line == 0 && err != nil:
				t.Fatal(err)
			case c.line != 0 && (!errors.As(err, &broken) || broken.Line != c.line):
				t.Fatalf("got %v, want line %d", err, c.line)
			}
		})
	}
}

func TestAuditGoesOnAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	writeAudit(t, path, "create", "update")
	whole, _ := os.ReadFile(path)
	if err := os.WriteFile(path, whole[:len(whole)-7], 0o600); err != nil {
		t.Fatal(err)
	}
	writeAudit(t, path, "delete")
	var verbs []string
	err := server.ReadAudit(path, func(e api.AuditEntry) error { verbs = append(verbs, e.Verb); return nil })
	if got := strings.Join(verbs, " "); err != nil || got != "create recover delete" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestAuditCountsFloods(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	at := time.Unix(1000, 0)
	a, err := server.OpenAudit(path, roomy, func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if err := a.Write(api.AuditEntry{Verb: "get", Outcome: "Unauthenticated"}); err != nil {
			t.Fatal(err)
		}
	}
	at = at.Add(time.Second)
	if err := errors.Join(a.Write(api.AuditEntry{Verb: "get", Outcome: "Unauthenticated"}), a.Close()); err != nil {
		t.Fatal(err)
	}
	n, told := 0, false
	err = server.ReadAudit(path, func(e api.AuditEntry) error {
		n++
		told = told || strings.Contains(e.Detail, "980 more refusals")
		return nil
	})
	if err != nil || n != 22 || !told {
		t.Fatalf("%d lines, told %v, %v", n, told, err)
	}
}
