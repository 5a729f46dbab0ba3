package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/internal/feed"
)

// retry is the pause before a watch that ended begins anew.
const retry = 100 * time.Millisecond

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string) (<-chan store.Batch, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done.Err() != nil {
		return nil, fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	ctx, stop := context.WithCancel(ctx)
	unlink := context.AfterFunc(s.done, stop)
	f := feed.New(prefix)
	s.running.Go(func() { f.Run(ctx) })
	s.running.Go(func() {
		defer stop()
		defer unlink()
		s.follow(ctx, prefix, f)
	})
	return f.Batches(), nil
}

// follow lists, then passes on what changes; it lists anew only when the history that it
// would go on from is gone.
func (s *Store) follow(ctx context.Context, prefix string, f *feed.Feed) {
	next := int64(0) // the revision to go on from; 0: list first
	for ctx.Err() == nil {
		if next == 0 {
			entries, rev, err := s.list(ctx, prefix)
			if err != nil {
				pause(ctx)
				continue
			}
			f.Reset(entries)
			next = rev + 1
		}
		next = s.stream(ctx, prefix, next, f)
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(retry):
	}
}

// stream passes on changes until the watch breaks, and gives the revision to go on from. A server that lost
// its leader ends the watch, so that the next one finds a server that has one. Progress
// notices keep next fresh while nothing changes, so that compaction does not overtake it.
//
// Metadata of its own gives each watch a stream of its own. Those that share one can block it for ever: the client
// of an embedded server waits for the server to take a cancellation, and the server for the client to take the answer to
// an earlier one, once some twenty end together.
func (s *Store) stream(ctx context.Context, prefix string, next int64, f *feed.Feed) int64 {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "understudy-watch", strconv.FormatInt(s.streams.Add(1), 10))
	for resp := range s.client.Watch(ctx, s.cfg.Prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(next), clientv3.WithProgressNotify()) {
		if resp.CompactRevision != 0 || errors.Is(resp.Err(), rpctypes.ErrCompacted) {
			return 0
		}
		if resp.Err() != nil {
			return next
		}
		if resp.IsProgressNotify() {
			next = max(next, resp.Header.Revision+1)
		}
		for _, e := range resp.Events {
			c := store.Change{Entry: s.entry(e.Kv)}
			if e.Type == clientv3.EventTypeDelete {
				c = store.Change{Entry: store.Entry{Key: c.Key}, Deleted: true}
			}
			f.Put(c)
			next = max(next, e.Kv.ModRevision+1)
		}
	}
	return next
}
