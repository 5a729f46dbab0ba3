package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	keys "filippo.io/age"

	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/objstore/dir"
	"github.com/understudy-ha/understudy/vault"
)

// filledVault makes a vault with fillVault's stream, and gives it open with its key.
func filledVault(t *testing.T) (v *vault.Vault, url, key string) {
	t.Helper()
	store := t.TempDir()
	key = filepath.Join(t.TempDir(), "site.key")
	recipient := strings.TrimSpace(ok(t, "vault", "keygen", "--out", key))
	ok(t, "vault", "create", "--vault", "file://"+store, "--recipient", recipient)
	fillVault(t, store)
	s, err := dir.Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := keys.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if v, err = vault.Open(t.Context(), s, vault.Options{Identity: ids[0]}); err != nil {
		t.Fatal(err)
	}
	return v, "file://" + store, key
}

// served offers a point and gives the URI of its disk, until the test ends.
func served(t *testing.T, v *vault.Vault, seq uint64, overlay string) string {
	t.Helper()
	w, err := v.View(t.Context(), "db-1", seq)
	if err != nil {
		t.Fatal(err)
	}
	srv := nbd.NewServer(nbd.Config{})
	volumes, err := offer(srv, w, overlay)
	if err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(t.TempDir(), "s")
	l, err := nbd.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, v := range volumes {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		}
		w.Close()
	})
	return nbd.URI("unix", sock, "root")
}

func nbdcopy(t *testing.T, from, to string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nbdcopy", from, to).CombinedOutput()
	return string(out), err
}

// TestVaultServe: a point is read as it was, cannot be changed, and with an overlay can, beside the vault.
func TestVaultServe(t *testing.T) {
	v, _, _ := filledVault(t)
	first := make([]byte, 1<<20)
	copy(first, bytes.Repeat([]byte{'a'}, 512))
	uri := served(t, v, 2, "")
	got := filepath.Join(t.TempDir(), "got")
	if out, err := nbdcopy(t, uri, got); err != nil {
		t.Fatal(out, err)
	}
	if b, err := os.ReadFile(got); err != nil || !bytes.Equal(b, first) {
		t.Errorf("the first point differs: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, bytes.Repeat([]byte{'z'}, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := nbdcopy(t, other, uri); err == nil {
		t.Errorf("a point was written: %s", out)
	}
	overlay := filepath.Join(t.TempDir(), "look")
	if err := os.Mkdir(overlay, 0o700); err != nil {
		t.Fatal(err)
	}
	over := served(t, v, 2, overlay)
	if out, err := nbdcopy(t, other, over); err != nil {
		t.Fatal(out, err)
	}
	for from, want := range map[string]byte{over: 'z', uri: 'a'} {
		if out, err := nbdcopy(t, from, got); err != nil {
			t.Fatal(out, err)
		}
		if b, err := os.ReadFile(got); err != nil || b[0] != want {
			t.Errorf("%s begins with %q, %v; want %q", from, b[0], err, want)
		}
	}
}

// TestVaultRefusesHalfADisk: a stream that holds only what differs from a disk elsewhere is not given out as a disk.
func TestVaultRefusesHalfADisk(t *testing.T) {
	v, url, key := filledVault(t)
	spec := vault.StreamSpec{ID: "db-2", Epoch: 2, Machine: vault.Machine{UID: "db", Name: "db"}, Disks: []vault.Disk{{ID: "root", Size: 1 << 20}}, Base: vault.Base{Kind: "disk"}}
	if _, err := v.Writer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	spec.ID, spec.Base = "db-3", vault.Base{Kind: "stream", Stream: "db-2"}
	if _, err := v.Writer(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{"db-2", "db-3"} {
		in := []string{"--vault", url, "--key", key, "--stream", stream, "--point", "@0"}
		for _, verb := range [][]string{{"export", "--out", filepath.Join(t.TempDir(), "out")}, {"serve", "--listen", "unix:" + filepath.Join(t.TempDir(), "s")}} {
			_, errs, code := runVerb(t, append(append([]string{"vault"}, verb...), in...)...)
			if code != exitConflict || !strings.Contains(errs, "only what differs from the disks") {
				t.Errorf("%s of %s: %d %s", verb[0], stream, code, errs)
			}
		}
	}
}
