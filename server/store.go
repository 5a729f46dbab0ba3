package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"

	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/etcd"
	"github.com/understudy-ha/understudy/store/zookeeper"
)

// openStore opens the store that cfg names. In ZooKeeper every znode is for one user alone, whose password all
// controllers derive from the key file.
func openStore(ctx context.Context, dir string, cfg Config, seal *pki.Sealer) (store.Store, error) {
	var files FilesConfig
	if t := cfg.Store.TLS; t != nil {
		files = FilesConfig{Cert: in(dir, t.Cert), Key: in(dir, t.Key), CA: in(dir, t.CA)}
	}
	if cfg.Store.Type == StoreZooKeeper {
		return zookeeper.Open(ctx, zookeeper.Config{Servers: cfg.Store.Endpoints, Files: zookeeper.Files(files),
			User: "understudy", Password: seal.Derive("zookeeper")})
	}
	c := etcd.Config{Endpoints: cfg.Store.Endpoints, ClientTLS: etcd.Files(files), Log: etcdLog{}}
	if len(cfg.Store.Endpoints) == 0 {
		e := cfg.Store.Etcd
		c.Dir, c.Name = filepath.Join(dir, "etcd"), cfg.Name
		c.PeerURL, c.InitialCluster = e.PeerURL, e.InitialCluster
		if e.PeerURL != "" {
			c.PeerTLS = etcd.Files{Cert: filepath.Join(dir, fileCert), Key: filepath.Join(dir, fileTLSKey), CA: filepath.Join(dir, fileCA)}
		}
		c.Heartbeat, c.Election = e.Heartbeat.D(), e.Election.D()
	}
	return etcd.Open(ctx, c)
}

// etcdLog gives etcd's log to ours. What etcd only warns of, like one slow disk write, is for those who look closely.
type etcdLog struct{}

func (etcdLog) Write(b []byte) (int, error) {
	var line struct{ Level, Msg, Error string }
	if json.Unmarshal(b, &line) != nil || line.Level == "warn" || line.Msg == "failed to update storage version" { // a new member says so
		slog.Debug("etcd", "line", string(b))
		return len(b), nil
	}
	slog.Warn("etcd: "+line.Msg, "err", line.Error)
	return len(b), nil
}

func in(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
