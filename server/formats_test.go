package server_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/server"
)

// examples gives the blocks between the fences of a page of docs/formats.
func examples(t testing.TB, page string) (blocks []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "formats", page))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(b), "```")
	for i := 1; i < len(parts); i += 2 {
		blocks = append(blocks, strings.TrimPrefix(parts[i], "\n"))
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no example", page)
	}
	return blocks
}

func TestFormatPagesTellTheTruth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	aside := filepath.Join(filepath.Dir(path), "audit-000000000001.log")
	if err := errors.Join(os.WriteFile(aside, []byte(examples(t, "audit.md")[0]), 0o600),
		os.WriteFile(path, []byte(examples(t, "audit.md")[1]), 0o600)); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := server.ReadAuditFiles(path, func(api.AuditEntry) error { n++; return nil }); err != nil || n != 3 {
		t.Errorf("audit.md: %d entries, %v", n, err)
	}

	h, entries, err := server.ReadBackup(strings.NewReader(examples(t, "backup.md")[0]))
	if err != nil || h.ClusterID != "1-0123456789ab" || len(entries) != 1 || string(entries[0].Value) != "ApplianceGroup/default/dmz" {
		t.Errorf("backup.md: %+v %v, %v", h, entries, err)
	}

	sealed, err := hex.DecodeString(strings.TrimSpace(examples(t, "seal.md")[0]))
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	s, err := pki.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := s.Open("obj/Secret/default/arm", sealed); err != nil || string(plain) != "hunter2" {
		t.Errorf("seal.md: %q, %v", plain, err)
	}
}
