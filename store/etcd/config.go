// Package etcd keeps the store in etcd: in a server that runs inside this process, alone or as one
// of several, or in servers elsewhere.
//
// A key's revision is etcd's ModRevision, which counts every change of the whole store and so never repeats.
package etcd

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/understudy-ha/understudy/store"
)

// Config says which etcd to use. Either Dir is set, for a server in this process, or Endpoints is.
type Config struct {
	// Endpoints are the client URLs of servers elsewhere ("https://10.0.0.4:2379").
	Endpoints []string
	// TLS, if set, is how to talk to Endpoints; otherwise ClientTLS is, if that is set.
	TLS *tls.Config

	// Dir is where the embedded server keeps its data. It is created, readable by its owner only. Every write
	// is synced to disk before it is acknowledged.
	Dir string
	// Name is the embedded server's name within InitialCluster. Default "default".
	Name string
	// PeerURL is where the other members of the cluster reach the embedded server; required with InitialCluster.
	PeerURL string
	// PeerListenURL is where it listens for them. Default PeerURL.
	PeerListenURL string
	// ClientURL is where the embedded server serves clients of other processes. Default: it serves none.
	ClientURL string
	// InitialCluster is every member, this one included: "a=https://10.0.0.4:2380,b=…". Default: this one alone.
	// It matters at the first start only; later the data directory knows.
	InitialCluster string
	// ClusterToken keeps clusters apart that were configured with the same addresses. Default "understudy".
	ClusterToken string
	// Join says that the cluster exists and that this member was added to it.
	Join bool
	// Heartbeat and Election are the intervals of the embedded server's leader election; Election is at least
	// five times Heartbeat. Default 100 ms and 1 s. Members should agree.
	Heartbeat, Election time.Duration

	// PeerTLS and ClientTLS are the certificates for members and for clients. With them both sides must show a
	// certificate of the CA. The files are read at each handshake, so a renewed certificate needs no restart.
	PeerTLS, ClientTLS Files

	// Prefix is put before every key, so that others can use the same servers. Default "/understudy/".
	Prefix string
	// Timeout bounds a call whose context allows more. Default 5 s.
	Timeout time.Duration
	// CompactEvery is how often history is dropped that is older than this time; without that the database grows
	// with every write. Negative: never, for servers that compact by themselves. Default 5 min.
	CompactEvery time.Duration
	// Log gets warnings and errors as lines of JSON. Default: nobody.
	Log io.Writer
}

// Files are the paths of a certificate, its key and the CA that the other side's certificate must come from.
type Files struct {
	Cert, Key, CA string
}

func (f Files) set() bool { return f != Files{} }

func (f Files) info() transport.TLSInfo {
	return transport.TLSInfo{CertFile: f.Cert, KeyFile: f.Key, TrustedCAFile: f.CA, ClientCertAuth: f.set()}
}

// check gives cfg with its defaults, or says which field is wrong.
func (cfg Config) check() (Config, error) {
	bad := func(format string, args ...any) (Config, error) {
		return Config{}, fmt.Errorf("%w: etcd "+format, append([]any{store.ErrInvalid}, args...)...)
	}
	if (cfg.Dir == "") == (len(cfg.Endpoints) == 0) {
		return bad("dir %q and endpoints %q: want one of them", cfg.Dir, cfg.Endpoints)
	}
	setDefault(&cfg.Name, "default")
	setDefault(&cfg.PeerListenURL, cfg.PeerURL)
	setDefault(&cfg.ClusterToken, "understudy")
	setDefault(&cfg.Prefix, "/understudy/")
	setDefault(&cfg.Heartbeat, 100*time.Millisecond)
	setDefault(&cfg.Election, 10*cfg.Heartbeat)
	setDefault(&cfg.Timeout, 5*time.Second)
	setDefault(&cfg.CompactEvery, 5*time.Minute)
	if cfg.Timeout < 0 {
		return bad("timeout %v: want more than 0", cfg.Timeout)
	}
	if !strings.HasSuffix(cfg.Prefix, "/") {
		return bad("prefix %q: want a slash at its end", cfg.Prefix)
	}
	if cfg.Heartbeat < time.Millisecond || cfg.Election < 5*cfg.Heartbeat {
		return bad("heartbeat %v, election %v: want at least 1ms, and an election of five heartbeats", cfg.Heartbeat, cfg.Election)
	}
	if cfg.InitialCluster != "" && cfg.PeerURL == "" {
		return bad("initial cluster %q without a peer URL: want this member's own", cfg.InitialCluster)
	}
	urls := map[string]string{"peer URL": cfg.PeerURL, "peer listen URL": cfg.PeerListenURL, "client URL": cfg.ClientURL}
	for i, e := range cfg.Endpoints {
		urls[fmt.Sprintf("endpoint %d", i+1)] = e
	}
	for name, s := range urls {
		if u, err := url.Parse(s); s != "" && (err != nil || u.Port() == "" || u.Scheme != "http" && u.Scheme != "https") {
			return bad("%s %q: want http://host:port or https://host:port", name, s)
		}
	}
	for name, f := range map[string]Files{"peer TLS": cfg.PeerTLS, "client TLS": cfg.ClientTLS} {
		if f.set() && (f.Cert == "" || f.Key == "" || f.CA == "") {
			return bad("%s %+v: want certificate, key and CA", name, f)
		}
	}
	return cfg, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (cfg Config) logger() *zap.Logger {
	if cfg.Log == nil {
		return zap.NewNop()
	}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(cfg.Log)), zap.WarnLevel))
}
