package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/server"
)

func FuzzReadAudit(f *testing.F) {
	f.Add([]byte(`{"seq":1,"at":"2026-01-02T15:04:05Z","actor":"a","verb":"v","outcome":"ok","prev":"understudy-audit","hash":"x"}` + "\n"))
	f.Add([]byte("{}"))
	path := filepath.Join(f.TempDir(), "audit.log")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := server.ReadAudit(path, func(api.AuditEntry) error { n++; return nil })
		var broken *server.BrokenChain
		if err != nil && !errors.As(err, &broken) || n > 0 {
			t.Fatalf("%d entries of what no controller wrote, %v", n, err)
		}
	})
}

func FuzzLoadConfig(f *testing.F) {
	f.Add([]byte("name: c1\nlease: {ttl: 3s}\npeers: {c1: \"10.0.0.1:7443\"}\n"))
	f.Add([]byte("store: {type: zookeeper, endpoints: [\"a:1\"]}\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "server.yaml"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := server.LoadConfig(dir)
		if err != nil {
			return
		}
		c.Default(dir)
		var bad *api.Invalid
		if err := c.Validate(); err != nil && !errors.As(err, &bad) {
			t.Fatal(err)
		}
	})
}
