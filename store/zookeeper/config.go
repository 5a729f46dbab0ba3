// Package zookeeper keeps the store in a ZooKeeper ensemble.
//
// Each key is a znode below one of 64 buckets, so that no znode has too many children. A value is stored
// after a "+"; a deleted key leaves an empty znode, its tombstone, which is removed much later, so that
// versions, which transactions check, do not start again under a writer's hands. A key's revision is
// its znode's mzxid, which never repeats.
package zookeeper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/understudy-ha/understudy/store"
)

// Config says which ensemble to use and how.
type Config struct {
	// Servers are the "host:port" of the ensemble. With TLS they are the secure client ports.
	Servers []string
	// Root is the znode below which everything is kept; it is created. Default "/understudy".
	Root string
	// SessionTimeout is how long a connection may be silent: after two thirds of it the client goes to
	// another server. Servers allow 2 to 20 of their ticks. Default 4 s.
	SessionTimeout time.Duration
	// Timeout bounds a call whose context allows more, and the silence in one that reads everything. Default 5 s.
	Timeout time.Duration
	// Tombstones is how long the znode of a deleted key is kept, and how often old ones are looked for. It must be
	// longer than any transaction can be under way. At least 1 min. Default 1 h.
	Tombstones time.Duration

	// User and Password, if set, are sent to the servers (scheme "digest"), and every znode that this
	// client creates is for that user alone. Without TLS they cross the network readable.
	User, Password string
	// TLS, if set, is how to talk to the servers; otherwise Files are, if set.
	TLS *tls.Config
	// Files are read at each connection, so a renewed certificate needs no restart.
	Files Files
}

// Files are the paths of a certificate, its key and the CA that the servers' certificates come from.
type Files struct {
	Cert, Key, CA string
}

// check gives cfg with its defaults, or says which field is wrong.
func (cfg Config) check() (Config, error) {
	bad := func(format string, args ...any) (Config, error) {
		return Config{}, fmt.Errorf("%w: zookeeper "+format, append([]any{store.ErrInvalid}, args...)...)
	}
	setDefault(&cfg.Root, "/understudy")
	setDefault(&cfg.SessionTimeout, 4*time.Second)
	setDefault(&cfg.Timeout, 5*time.Second)
	setDefault(&cfg.Tombstones, time.Hour)
	if len(cfg.Servers) == 0 {
		return bad("servers: none, want host:port")
	}
	for _, s := range cfg.Servers {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			return bad("server %q: want host:port", s)
		}
	}
	if rest, ok := strings.CutPrefix(cfg.Root, "/"); !ok || store.ValidKey(rest) != nil || rest == "zookeeper" {
		return bad("root %q: want a path like /understudy", cfg.Root)
	}
	if cfg.SessionTimeout < time.Second || cfg.Timeout <= 0 {
		return bad("session timeout %v, timeout %v: want at least 1s, and more than 0", cfg.SessionTimeout, cfg.Timeout)
	}
	if cfg.Tombstones < time.Minute {
		return bad("tombstones %v: want at least 1m", cfg.Tombstones)
	}
	if (cfg.User == "") != (cfg.Password == "") || strings.Contains(cfg.User, ":") {
		return bad("user %q: want user and password, and no colon in the user", cfg.User)
	}
	if f := cfg.Files; f != (Files{}) && (f.Cert == "" || f.Key == "" || f.CA == "") {
		return bad("files %+v: want certificate, key and CA", f)
	}
	return cfg, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// acl is what new znodes get.
func (cfg Config) acl() []zk.ACL {
	if cfg.User == "" {
		return zk.WorldACL(zk.PermAll)
	}
	return zk.DigestACL(zk.PermAll, cfg.User, cfg.Password)
}

// dial connects to one server.
func (cfg Config) dial(ctx context.Context, server string) (net.Conn, error) {
	config := cfg.TLS
	if config == nil && cfg.Files != (Files{}) {
		var err error
		if config, err = cfg.Files.load(); err != nil {
			return nil, err
		}
	}
	if config == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", server)
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", server)
}

func (f Files) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("zookeeper client certificate: %w", err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("zookeeper CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("zookeeper CA %s: no certificate in it", f.CA)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
