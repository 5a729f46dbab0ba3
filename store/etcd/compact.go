package etcd

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// compact drops, every CompactEvery, the history that was there the time before, so that
// readers of the last interval find theirs. Several clients may do so: what is
// already gone costs one refused request.
func (s *Store) compact() {
	ticker := time.NewTicker(s.cfg.CompactEvery)
	defer ticker.Stop()
	last := int64(0)
	for {
		select {
		case <-s.done.Done():
			return
		case <-ticker.C:
			last = s.compactTo(last)
		}
	}
}

// compactTo drops the history before rev and gives the revision for the next time. What fails is
// done by the next round.
func (s *Store) compactTo(rev int64) int64 {
	ctx, cancel, err := s.begin(s.done)
	if err != nil {
		return rev
	}
	defer cancel()
	resp, err := s.client.Get(ctx, s.cfg.Prefix, clientv3.WithCountOnly())
	if err != nil {
		return rev
	}
	if rev > 0 {
		s.client.Compact(ctx, rev)
	}
	return resp.Header.Revision
}
