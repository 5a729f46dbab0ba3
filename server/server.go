// Package server is the controller process: the API that people use, the endpoint that
// agents and other controllers dial, and the shell that runs controller.Core against a
// real store, real clouds and a real clock.
package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/store"
)

// Options of a controller process.
type Options struct {
	// Dir holds the controller's files; EnsureDir or InitCluster made it.
	Dir string
	// Config, defaulted and valid.
	Config Config
	// Version of the product.
	Version string
	// Store, if set, is used in place of the one that Config names. The server closes it.
	Store store.Store
	// Planners by provider type. Default: those of cloud/linux and cloud/azure.
	Planners map[api.ProviderType]cloud.Planner
	// Points reads the recovery points of vaults. Default: from the vaults themselves.
	Points PointReader
	// FailpointFile, if set, may arm failpoints; see FailpointEnv.
	FailpointFile string
}

// Server is a controller. New opens its store, Run does the work, Close ends it.
type Server struct {
	name    string
	opt     Options
	cfg     Config
	id      *identity
	cluster clusterDoc

	store     store.Store
	resources *resources
	authority *authority
	tokens    *tokens
	audit     *Audit
	hub       *hub
	metrics   *metrics
	runtime   *runtime
	now       func() time.Time

	apiListener, clusterListener net.Listener

	stopping  chan struct{}
	stopOnce  sync.Once
	closeOnce sync.Once
	closeErr  error
}

// storeWait is how long New waits for the store to answer for the first time, beyond ctx. An embedded etcd of three needs its peers.
const storeWait = 50 * time.Millisecond

// New opens everything that a controller needs. It waits until the store answers.
func New(ctx context.Context, opt Options) (*Server, error) {
	id, err := loadIdentity(opt.Dir, opt.Config)
	if err != nil {
		return nil, fmt.Errorf("controller in %s: %w", opt.Dir, err)
	}
	s := &Server{name: opt.Config.Name, opt: opt, cfg: opt.Config, id: id, now: time.Now, stopping: make(chan struct{}), store: opt.Store}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	if s.audit, err = OpenAudit(filepath.Join(s.opt.Dir, "audit", "audit.log"), s.cfg.Audit.limits(), s.now); err != nil {
		return err
	}
	if s.apiListener, err = net.Listen("tcp", s.cfg.Listen); err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	if s.clusterListener, err = net.Listen("tcp", s.cfg.ClusterListen); err != nil {
		return fmt.Errorf("listen for agents and controllers: %w", err)
	}
	if s.store == nil {
		if s.store, err = openStore(ctx, s.opt.Dir, s.cfg, s.id.seal); err != nil {
			return err
		}
	}
	if err := s.joinCluster(ctx); err != nil {
		return err
	}
	if s.opt.Planners == nil {
		s.opt.Planners = planners(s.cfg.Timing())
	}
	if s.opt.Points == nil {
		s.opt.Points = readPoints
	}
	s.metrics = newMetrics(s.opt.Version, func(k api.Kind) []api.Object { return s.hub.objects(k) })
	s.authority = &authority{store: s.store, now: s.now}
	s.tokens = &tokens{store: s.store, ca: func() *pki.CA { return s.id.ca }, now: s.now, controllers: s.cfg.PeerAddresses()}
	s.resources = &resources{store: s.store, seal: s.id.seal, planners: s.opt.Planners, now: s.now, site: s.cfg.site, controllers: len(s.cfg.Peers),
		members: s.cfg.ControllerNames(), storeNodes: s.cfg.Store.Endpoints}
	s.runtime = newRuntime(s)
	s.hub = newHub(s.store, s.runtime.storeChanged)
	return nil
}

// joinCluster writes the seed into an empty store, or checks that the store is this cluster's.
func (s *Server) joinCluster(ctx context.Context) error {
	for {
		err := s.tryJoin(ctx)
		if err == nil || !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrConflict) {
			return err
		}
		slog.Debug("the store does not answer yet", "err", err)
		if err := sleep(ctx, storeWait); err != nil {
			return fmt.Errorf("the store does not answer: %w", err)
		}
	}
}

func (s *Server) tryJoin(ctx context.Context) error {
	e, err := s.store.Get(ctx, clusterKey)
	if isStoreNotFound(err) {
		if err := s.plantSeed(ctx); err != nil {
			return err
		}
		e, err = s.store.Get(ctx, clusterKey)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(e.Value, &s.cluster); err != nil {
		return fmt.Errorf("read %s: %w", clusterKey, err)
	}
	if err := pki.VerifyCluster(s.id.ca.Cert, s.cluster.ClusterID, s.cluster.Proof); err != nil {
		return fmt.Errorf("the store holds another cluster's state: %w", err)
	}
	return nil
}

func (s *Server) plantSeed(ctx context.Context) error {
	keyPEM, err := s.id.ca.KeyPEM()
	if err != nil {
		return err
	}
	docs := map[string]any{
		clusterKey:                       s.id.seed.Cluster,
		caKey:                            caDoc{Cert: s.id.ca.CertPEM(), Sealed: s.id.seal.Seal(caKey, keyPEM)},
		tokenPrefix + s.id.seed.Admin.ID: s.id.seed.Admin,
	}
	var conds []store.Cond
	var ops []store.Op
	for key, doc := range docs {
		value, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		conds, ops = append(conds, store.Cond{Key: key}), append(ops, store.Op{Key: key, Value: value})
	}
	_, err = s.store.Txn(ctx, conds, ops)
	return err
}

// ClusterID of the store that the controller works on.
func (s *Server) ClusterID() string { return s.cluster.ClusterID }

// Addr gives where the API listens, ClusterAddr where agents and controllers are served.
func (s *Server) Addr() string { return s.apiListener.Addr().String() }

// ClusterAddr gives where agents and controllers are served.
func (s *Server) ClusterAddr() string { return s.clusterListener.Addr().String() }

// Run works until ctx ends or something fails for good. Then it lets go of the lease, if it can within a lease's time.
func (s *Server) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, 8)
	start := func(what string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(inner); err != nil && inner.Err() == nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	start("follow the store", func(ctx context.Context) error { s.hub.run(ctx); return nil })
	start("serve the API", s.serveAPI)
	start("serve agents and controllers", s.serveCluster)
	start("keep the embedded store", s.watchStore)
	start("renew certificates", s.renewCertificates)
	start("remove what is past its retention", s.collect)
	// The controller ends first, since giving the lease back needs the rest.
	deciding, stopDeciding := context.WithCancel(ctx)
	defer stopDeciding()
	var decided sync.WaitGroup
	decided.Go(func() { s.runtime.run(deciding) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stopDeciding()
	decided.Wait()
	s.stopOnce.Do(func() { close(s.stopping) })
	cancel()
	wg.Wait()
	return err
}

// watchStore fails when the embedded store has ended by itself.
func (s *Server) watchStore(ctx context.Context) error {
	embedded, ok := s.store.(interface{ Failed() <-chan struct{} })
	if !ok || embedded.Failed() == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-embedded.Failed():
		return errors.New("etcd has ended by itself")
	}
}

func (s *Server) serveAPI(ctx context.Context) error {
	conf := pki.ServerTLS(pki.ServerOptions{CA: s.id.ca.Cert, Cert: s.id.cert, NextProtos: []string{"h2", "http/1.1"}, Refused: s.certRefused("api")})
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(logWriter{}, "", 0), BaseContext: func(net.Listener) context.Context { return ctx }}
	return serveHTTP(ctx, srv, func() error { return srv.Serve(tls.NewListener(s.apiListener, conf)) })
}

// certRefused writes down certificates that were refused.
func (s *Server) certRefused(where string) func(net.Addr, error) {
	return func(from net.Addr, err error) {
		s.auditWrite(api.AuditEntry{Actor: "unknown", From: from.String(), Verb: "connect", Object: where, Outcome: string(api.CodeUnauthenticated), Detail: err.Error()})
	}
}

// Close lets go of everything. Run must have returned. Close twice is safe.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		var errs []error
		for _, l := range []net.Listener{s.apiListener, s.clusterListener} {
			if l != nil {
				if err := l.Close(); !errors.Is(err, net.ErrClosed) {
					errs = append(errs, err)
				}
			}
		}
		if s.store != nil {
			errs = append(errs, s.store.Close())
		}
		if s.audit != nil {
			errs = append(errs, s.audit.Close())
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}
