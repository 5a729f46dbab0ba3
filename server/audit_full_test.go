package server_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/server"
)

// A disk that is full refuses entries, in the middle of one or between two files. When there is room again the chain is
// whole.
func TestAuditOutlivesAFullDisk(t *testing.T) {
	const page = 4096
	for free := 1; free <= 6; free++ {
		t.Run(fmt.Sprintf("%d pages free", free), func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=65536"); err != nil {
				t.Fatalf("mount a small disk, as root: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			path, filler := filepath.Join(dir, "audit", "audit.log"), filepath.Join(dir, "filler")
			a, err := server.OpenAudit(path, server.AuditLimits{FileBytes: 2 * page, Keep: 9}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filler, bytes.Repeat([]byte("x"), 65536-free*page), 0o600); err != nil {
				t.Fatal(err)
			}
			entry := api.AuditEntry{Actor: "ann", Verb: "update", Outcome: "ok"}
			refused := 0
			for i := 0; refused < 3; i++ {
				if a.Write(entry) != nil {
					refused++
				} else if i > 1000 {
					t.Fatal("the disk is never full")
				}
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			for range 40 {
				if err := a.Write(entry); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := entriesOf(t, path); err != nil {
				t.Error(err)
			}
			for _, name := range filesOf(t, path) {
				if err := server.ReadAudit(filepath.Join(filepath.Dir(path), name), func(api.AuditEntry) error { return nil }); err != nil {
					t.Errorf("%s by itself: %v", name, err)
				}
			}
		})
	}
}
