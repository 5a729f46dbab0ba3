package server_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
	"github.com/understudy-ha/understudy/server"
	"github.com/understudy-ha/understudy/store/zookeeper/zktest"
)

// TestZooKeeperCarriesAControllerAndShowsNoSecret runs a controller on a real server, and looks at what is on its disk and at what a
// stranger may read.
func TestZooKeeperCarriesAControllerAndShowsNoSecret(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	zkDir, dir := t.TempDir(), t.TempDir()
	ensemble, err := zktest.Start(ctx, zkDir, 1, zktest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ensemble.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := server.Config{Listen: "127.0.0.1:0", ClusterListen: "127.0.0.1:0", Lease: quickLease,
		Store: server.StoreConfig{Type: server.StoreZooKeeper, Endpoints: ensemble.Endpoints()}}
	cfg.Default(dir)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.EnsureDir(dir, cfg, time.Now()); err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(ctx, server.Options{Dir: dir, Config: cfg, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(running) }()
	defer func() {
		stop()
		if err := errors.Join(<-done, srv.Close()); err != nil {
			t.Error(err)
		}
	}()
	ccfg, err := client.Load(filepath.Join(dir, server.FileClient))
	if err != nil {
		t.Fatal(err)
	}
	ccfg.Servers = []string{"https://" + srv.Addr()}
	c, err := client.New(ccfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	secret := &api.Secret{Header: head(api.KindSecret, "", "arm"), Data: map[string]string{"token": "hunter2hunter2hunter2"}}
	for _, o := range []api.Object{provider(""), pair("", "dmz", "10"), secret} {
		if _, _, err := c.Apply(ctx, o, false); err != nil {
			t.Fatal(err)
		}
	}
	if epoch(t, c) < 1 {
		t.Error("nobody leads")
	}
	disk := readAll(t, zkDir)
	if !bytes.Contains(disk, []byte("203.0.113.10")) || bytes.Contains(disk, []byte("hunter2")) {
		t.Errorf("the servers' disks: group found %v, secret found %v", bytes.Contains(disk, []byte("203.0.113.10")), bytes.Contains(disk, []byte("hunter2")))
	}
	stranger, _, err := zk.Connect(ensemble.Endpoints(), 5*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, _, err := stranger.Children("/understudy"); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("a stranger reads the tree: %v", err)
	}
}
