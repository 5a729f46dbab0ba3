package etcd

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// quota is where the embedded server stops taking writes: etcd's largest sensible database.
const quota = 8 << 30

// serve starts the embedded server. It does not wait for the other members.
func serve(cfg Config, log *zap.Logger) (*embed.Etcd, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd data directory: %w", err)
	}
	e := embed.NewConfig()
	e.Name, e.Dir = cfg.Name, cfg.Dir
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	e.TickMs, e.ElectionMs = uint(cfg.Heartbeat.Milliseconds()), uint(cfg.Election.Milliseconds())
	e.QuotaBackendBytes = quota
	e.EnableGRPCGateway = false // a second way in, which would need a client certificate of the server itself
	e.InitialClusterToken = cfg.ClusterToken
	if cfg.Join {
		e.ClusterState = embed.ClusterStateFlagExisting
	}
	e.PeerTLSInfo, e.ClientTLSInfo = cfg.PeerTLS.info(), cfg.ClientTLS.info()

	// A server alone and without clients of its own listens nowhere. Its addresses must be something all the same.
	nowhere := "http://127.0.0.1:1"
	peer := cfg.PeerURL
	setDefault(&peer, nowhere)
	e.AdvertisePeerUrls = urls(peer)
	e.ListenPeerUrls = urls(cfg.PeerListenURL)
	e.ListenClientUrls = urls(cfg.ClientURL)
	e.AdvertiseClientUrls = urls(cfg.ClientURL)
	e.InitialCluster = cfg.InitialCluster
	setDefault(&e.InitialCluster, cfg.Name+"="+peer)

	server, err := embed.StartEtcd(e)
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	}
	return server, nil
}

// urls gives none for "". check has parsed s before.
func urls(s string) []url.URL {
	u, err := url.Parse(s)
	if s == "" || err != nil {
		return nil
	}
	return []url.URL{*u}
}
