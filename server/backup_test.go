package server_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/server"
	"github.com/understudy-ha/understudy/store/etcd"
)

// embedded runs a controller with its own etcd in dir and gives an admin's client; end stops it.
func embedded(t *testing.T, dir string) (c *client.Client, srv *server.Server, end func()) {
	t.Helper()
	cfg := server.Config{Listen: "127.0.0.1:0", ClusterListen: "127.0.0.1:0", Lease: quickLease}
	cfg.Default(dir)
	if _, err := server.EnsureDir(dir, cfg, time.Now()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	opening, stopOpening := context.WithTimeout(ctx, 20*time.Second)
	defer stopOpening()
	srv, err := server.New(opening, server.Options{Dir: dir, Config: cfg, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	ccfg, err := client.Load(filepath.Join(dir, server.FileClient))
	if err != nil {
		t.Fatal(err)
	}
	ccfg.Servers = []string{"https://" + srv.Addr()}
	if c, err = client.New(ccfg); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		c.Close()
		if err := errors.Join(<-done, srv.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return c, srv, end
}

func epoch(t *testing.T, c *client.Client) int64 {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var st api.ClusterStatus
		if err := c.Call(t.Context(), "GET", "/v1/status", nil, "", nil, &st); err != nil {
			t.Fatal(err)
		}
		if st.Leading {
			return st.Epoch
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody leads")
		}
	}
}

// TestRestoreIsANewLife backs a controller up, loses its store and restores it; what the disk and the backup hold must not show
// a secret.
func TestRestoreIsANewLife(t *testing.T) {
	dir := t.TempDir()
	c, srv, end := embedded(t, dir)
	secret := &api.Secret{Header: head(api.KindSecret, "", "arm"), Data: map[string]string{"token": "hunter2hunter2hunter2"}}
	for _, o := range []api.Object{provider(""), pair("", "dmz", "10"), secret} {
		if _, _, err := c.Apply(t.Context(), o, false); err != nil {
			t.Fatal(err)
		}
	}
	before := epoch(t, c)
	id := srv.ClusterID()
	var backup []byte
	if err := c.Call(t.Context(), "GET", "/v1/backup", nil, "", nil, &backup); err != nil {
		t.Fatal(err)
	}
	end()
	for name, b := range map[string][]byte{"the backup": backup, "etcd's database": readAll(t, filepath.Join(dir, "etcd"))} {
		if len(b) < 1000 || bytes.Contains(b, []byte("hunter2")) {
			t.Errorf("%s has %d bytes and holds the secret: %v", name, len(b), bytes.Contains(b, []byte("hunter2")))
		}
		if !bytes.Contains(b, []byte("ApplianceGroup/default/dmz")) {
			t.Errorf("%s does not hold the group: the search proves nothing", name)
		}
	}
	cfg, err := server.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Default(dir)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := server.Restore(ctx, dir, cfg, bytes.NewReader(backup)); err == nil || !strings.Contains(err.Error(), "want an empty one") {
		t.Fatalf("restored over a full store: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Restore(ctx, dir, cfg, bytes.NewReader(backup[:len(backup)-20])); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Fatalf("restored half a backup: %v", err)
	}
	now, err := server.Restore(ctx, dir, cfg, bytes.NewReader(backup))
	if err != nil {
		t.Fatal(err)
	}
	if lead.CompareClusters(now, id) <= 0 {
		t.Errorf("cluster %s is not newer than %s", now, id)
	}
	c, srv, _ = embedded(t, dir)
	if srv.ClusterID() != now {
		t.Errorf("runs as %s, want %s", srv.ClusterID(), now)
	}
	if after := epoch(t, c); after <= before+1000 {
		t.Errorf("epoch %d after, %d before", after, before)
	}
	g, err := c.Group(t.Context(), "", "dmz")
	if err != nil || g.Spec.PublicAddresses[0].Address != "203.0.113.10" {
		t.Errorf("%+v, %v", g, err)
	}
	_, _, err = c.Apply(t.Context(), pair("", "second", "10"), false)
	wantCode(t, err, api.CodeInvalid, "ApplianceGroup/default/dmz owns it")
}

func readAll(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		all = append(all, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestStoreOfAnotherClusterIsRefused(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	_, _, end := embedded(t, first)
	end()
	cfg := server.Config{Listen: "127.0.0.1:0", ClusterListen: "127.0.0.1:0"}
	cfg.Default(second)
	if _, err := server.EnsureDir(second, cfg, time.Now()); err != nil {
		t.Fatal(err)
	}
	st, err := etcd.Open(t.Context(), etcd.Config{Dir: filepath.Join(first, "etcd"), Name: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = server.New(ctx, server.Options{Dir: second, Config: cfg, Store: st})
	if err == nil || !strings.Contains(err.Error(), "another cluster's state") {
		t.Fatal(err)
	}
}

func FuzzReadBackup(f *testing.F) {
	f.Add([]byte("{\"format\":\"understudy-backup/1\"}\n{\"key\":\"a/b\",\"value\":\"YQ==\"}\n{\"end\":1}\n"))
	f.Add([]byte("{\"format\":\"understudy-backup/1\"}\n{\"end\":0}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, es, err := server.ReadBackup(bytes.NewReader(b))
		if err == nil && h.Format == "" {
			t.Fatalf("%d entries without a format", len(es))
		}
	})
}
