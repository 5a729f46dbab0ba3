package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/understudy-ha/understudy/store"
)

// leaderless is the pause before the servers are asked again whether they have a leader.
const leaderless = 50 * time.Millisecond

// page is how many keys one request of a list asks for, so that no answer grows without bound.
const page = 1000

// Store is a client of etcd, and its server where that is embedded. Open gives one.
type Store struct {
	client *clientv3.Client
	server *embed.Etcd // nil if elsewhere
	cfg    Config

	done    context.Context // ends when Close is called
	stop    context.CancelFunc
	closing sync.Once

	mu      sync.Mutex // orders running.Go before running.Wait
	running sync.WaitGroup

	streams atomic.Int64 // watch streams so far
}

var _ store.Store = (*Store)(nil)

// Open starts the embedded server, or connects. It does not wait until the servers answer: until they do,
// calls fail with ErrUnavailable or ErrUnknown. An error is one of the configuration, of the
// data directory or of an address that is taken.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	}
	log := cfg.logger()
	if cfg.Dir == "" {
		client, err := dial(cfg, log)
		if err != nil {
			return nil, err
		}
		return start(cfg, client, nil), nil
	}
	server, err := serve(cfg, log)
	if err != nil {
		return nil, err
	}
	return start(cfg, v3client.New(server.Server), server), nil
}

// start gives the store of a client, which it then owns, and of its server if there is one.
func start(cfg Config, client *clientv3.Client, server *embed.Etcd) *Store {
	s := &Store{client: client, server: server, cfg: cfg}
	s.done, s.stop = context.WithCancel(context.Background())
	if cfg.CompactEvery > 0 {
		s.running.Go(s.compact)
	}
	return s
}

func dial(cfg Config, log *zap.Logger) (*clientv3.Client, error) {
	c := clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		Logger:               log,
		DialTimeout:          cfg.Timeout,
		DialKeepAliveTime:    6 * time.Second, // servers refuse more than one in 5 s
		DialKeepAliveTimeout: 2 * time.Second,
		MaxCallSendMsgSize:   2 * store.MaxTxnBytes,
		BackoffWaitBetween:   50 * time.Millisecond,
		// gRPC would wait up to two minutes before it tries a server again.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		})},
	}
	if c.TLS == nil && cfg.ClientTLS.set() {
		tls, err := cfg.ClientTLS.info().ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("%w: etcd client TLS: %w", store.ErrInvalid, err)
		}
		c.TLS = tls
	}
	client, err := clientv3.New(c)
	if err != nil {
		return nil, fmt.Errorf("etcd at %s: %w", strings.Join(cfg.Endpoints, " "), err)
	}
	return client, nil
}

// Failed is closed when the embedded server has ended by itself, for example because it was removed from its
// cluster. Without an embedded server it is nil.
func (s *Store) Failed() <-chan struct{} {
	if s.server == nil {
		return nil
	}
	return s.server.Server.StopNotify()
}

// begin gives the context of one call. Servers without a leader must refuse, not wait for one.
func (s *Store) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.done.Err() != nil {
		return nil, nil, fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("%w: %w", store.ErrUnavailable, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	unlink := context.AfterFunc(s.done, cancel)
	return clientv3.WithRequireLeader(ctx), func() { unlink(); cancel() }, nil
}

// unavailable wraps the error of a call that changed nothing.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: %w: %w", store.ErrUnavailable, ctx.Err(), err)
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.ValidKey(key); err != nil {
		return store.Entry{}, err
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return store.Entry{}, err
	}
	defer cancel()
	resp, err := s.read(ctx, s.cfg.Prefix+key)
	if err != nil {
		return store.Entry{}, err
	}
	if len(resp.Kvs) == 0 {
		return store.Entry{}, fmt.Errorf("%w: %q", store.ErrNotFound, key)
	}
	return s.entry(resp.Kvs[0]), nil
}

func (s *Store) entry(kv *mvccpb.KeyValue) store.Entry {
	return store.Entry{
		Key:   strings.TrimPrefix(string(kv.Key), s.cfg.Prefix),
		Value: kv.Value,
		Rev:   store.Rev(kv.ModRevision),
	}
}

// List implements store.Store. What it gives is a snapshot.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	entries, _, err := s.list(ctx, prefix)
	return entries, err
}

// list also gives the revision of the whole store that the entries are of. Each page is a call with its own timeout.
func (s *Store) list(ctx context.Context, prefix string) ([]store.Entry, int64, error) {
	var entries []store.Entry
	var rev int64
	from, end := s.cfg.Prefix+prefix, clientv3.GetPrefixRangeEnd(s.cfg.Prefix+prefix)
	for {
		resp, err := s.page(ctx, from, end, rev)
		if errors.Is(err, rpctypes.ErrCompacted) { // history was dropped between two pages
			return s.list(ctx, prefix)
		}
		if err != nil {
			return nil, 0, err
		}
		rev = resp.Header.Revision
		for _, kv := range resp.Kvs {
			entries = append(entries, s.entry(kv))
			from = string(kv.Key) + "\x00"
		}
		if !resp.More {
			return entries, rev, nil
		}
	}
}

func (s *Store) page(ctx context.Context, from, end string, rev int64) (*clientv3.GetResponse, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.read(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(rev))
}

// read asks again while the servers are between two leaders.
func (s *Store) read(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	for {
		resp, err := s.client.Get(ctx, key, opts...)
		if err == nil {
			return resp, nil
		}
		if !errors.Is(err, rpctypes.ErrNoLeader) && !errors.Is(err, rpctypes.ErrLeaderChanged) {
			return nil, unavailable(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil, unavailable(ctx, err)
		case <-time.After(leaderless):
		}
	}
}

// Snapshot writes a copy of the whole database of one server, as etcd's own tools restore it.
func (s *Store) Snapshot(ctx context.Context, w io.Writer) error {
	if s.done.Err() != nil {
		return fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.done, cancel)()
	r, err := s.client.Snapshot(ctx)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer r.Close()
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("etcd snapshot: %w", err)
	}
	return nil
}

// Close ends the watches, waits for them, lets go of the connection and stops the embedded server.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		s.mu.Lock()
		s.stop()
		s.mu.Unlock()
		s.running.Wait()
		if err = s.client.Close(); errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled {
			err = nil
		}
		if s.server != nil {
			s.server.Close()
		}
	})
	return err
}
