package server_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/server"
)

// example gives the block between the fences of a page of docs/formats.
func example(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "formats", page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "```\n")
	block, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatalf("%s has no example", page)
	}
	return block
}

func TestFormatPagesTellTheTruth(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(example(t, "audit.md")), 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := server.ReadAudit(path, func(api.AuditEntry) error { n++; return nil }); err != nil || n != 2 {
		t.Errorf("audit.md: %d entries, %v", n, err)
	}

	h, entries, err := server.ReadBackup(strings.NewReader(example(t, "backup.md")))
	if err != nil || h.ClusterID != "1-0123456789ab" || len(entries) != 1 || string(entries[0].Value) != "ApplianceGroup/default/dmz" {
		t.Errorf("backup.md: %+v %v, %v", h, entries, err)
	}

	sealed, err := hex.DecodeString(strings.TrimSpace(example(t, "seal.md")))
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
