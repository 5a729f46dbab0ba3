package zookeeper

import (
	"context"
	"errors"
	"time"

	"github.com/go-zookeeper/zk"
)

// sweeper is the znode whose version counts the passes over the tombstones of all clients.
func (s *Store) sweeper() string { return s.cfg.Root + "/sweeps" }

// sweep removes old tombstones, once in a while, unless another client did so since the last time.
func (s *Store) sweep() {
	ticker := time.NewTicker(s.cfg.Tombstones)
	defer ticker.Stop()
	seen := int32(-1)
	for {
		select {
		case <-s.done.Done():
			return
		case <-ticker.C:
			seen = s.sweepUnless(seen)
		}
	}
}

// sweepUnless makes a pass if the count of passes is still what it was, and gives the new count. What fails is left
// to the next pass.
func (s *Store) sweepUnless(seen int32) int32 {
	ctx, cancel := context.WithTimeout(s.done, bulkTimeout)
	defer cancel()
	l, err := s.current(ctx)
	if err != nil {
		return seen
	}
	count, err := do(ctx, s, l, func(l *link) (int32, error) {
		c := l.conn
		_, stat, err := c.Exists(s.sweeper())
		if err != nil || stat.Version != seen && seen >= 0 {
			return stat.Version, err
		}
		claim, err := c.Set(s.sweeper(), []byte{}, stat.Version)
		if err != nil {
			return stat.Version, err
		}
		// The claim's time is the servers', as is that of the tombstones.
		return claim.Version, s.removeTombstones(ctx, c, claim.Mtime-s.cfg.Tombstones.Milliseconds())
	})
	if err != nil {
		return seen
	}
	return count
}

// removeTombstones removes those last written before a time, in ms since 1970.
func (s *Store) removeTombstones(ctx context.Context, c *zk.Conn, before int64) error {
	for i := range buckets {
		names, _, err := c.Children(s.bucket(i))
		if err != nil {
			return err
		}
		err = each(len(names), func(j int) error {
			path := s.bucket(i) + "/" + names[j]
			ok, stat, err := c.Exists(path)
			if err != nil || !ok || stat.DataLength > 0 || stat.Mtime >= before {
				return cmpErr(ctx.Err(), err)
			}
			err = c.Delete(path, stat.Version)
			if errors.Is(err, zk.ErrNoNode) || errors.Is(err, zk.ErrBadVersion) { // somebody else was faster
				err = nil
			}
			return cmpErr(ctx.Err(), err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
