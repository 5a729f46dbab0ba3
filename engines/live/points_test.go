package live

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/engines"
)

func hook(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestScriptThatLeavesSomethingRunning does not hold the machine up: it would stay frozen.
func TestScriptThatLeavesSomethingRunning(t *testing.T) {
	dir := t.TempDir()
	hook(t, dir, "freeze", "sleep 20 &")
	began := time.Now()
	if err := script(t.Context(), dir, "freeze"); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// TestForgottenFreeze: a machine that a killed process had frozen goes on when the next one begins.
func TestForgottenFreeze(t *testing.T) {
	dir := t.TempDir()
	hook(t, dir, "thaw", "touch "+filepath.Join(dir, "thawed"))
	marks, err := engines.Home(dir).OpenMarks()
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{ctx: t.Context(), marks: marks, spec: Spec{PreScript: "thaw", PostScript: "thaw", Config: engines.Config{HooksDir: dir}}}
	_, thaw, err := m.freeze(m.spec)
	if err != nil {
		t.Fatal(err)
	}
	if marks, err = engines.Home(dir).OpenMarks(); err != nil || marks.Get(markFrozen) == "" {
		t.Fatalf("while it is frozen: %v", err)
	}
	os.Remove(filepath.Join(dir, "thawed"))
	next := &Machine{ctx: t.Context(), marks: marks, spec: m.spec}
	next.thawForgotten()
	if _, err := os.Stat(filepath.Join(dir, "thawed")); err != nil || marks.Get(markFrozen) != "" {
		t.Errorf("the next process does not thaw: %v", err)
	}
	thaw()
}
