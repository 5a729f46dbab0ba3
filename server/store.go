package server

import (
	"context"
	"os"
	"path/filepath"

	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/etcd"
)

// openStore opens the store that cfg names.
func openStore(ctx context.Context, dir string, cfg Config) (store.Store, error) {
	own := etcd.Files{Cert: filepath.Join(dir, fileCert), Key: filepath.Join(dir, fileTLSKey), CA: filepath.Join(dir, fileCA)}
	c := etcd.Config{Endpoints: cfg.Store.Endpoints, Log: os.Stderr}
	if t := cfg.Store.TLS; t != nil {
		c.ClientTLS = etcd.Files{Cert: in(dir, t.Cert), Key: in(dir, t.Key), CA: in(dir, t.CA)}
	}
	if len(cfg.Store.Endpoints) == 0 {
		e := cfg.Store.Etcd
		c.Dir, c.Name = filepath.Join(dir, "etcd"), cfg.Name
		c.PeerURL, c.InitialCluster, c.PeerTLS = e.PeerURL, e.InitialCluster, own
		c.Heartbeat, c.Election = e.Heartbeat.D(), e.Election.D()
	}
	return etcd.Open(ctx, c)
}

func in(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
