package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-zookeeper/zk"

	"github.com/understudy-ha/understudy/store"
)

// Txn implements store.Store. It reads the state of every key, compares revisions, and then has the servers do
// all writes together under the condition that no version has changed since. Who was overtaken reads again.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) ([]store.Rev, error) {
	if err := store.ValidTxn(conds, ops); err != nil {
		return nil, err
	}
	want, err := store.FoldConds(conds)
	if err != nil {
		return nil, err
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	for fresh := false; ; fresh = true {
		states, err := s.states(ctx, want, ops, fresh)
		if err != nil {
			return nil, err
		}
		if err := compare(want, states); err != nil {
			if !fresh {
				continue // the server may lag behind
			}
			return nil, err
		}
		revs, err := s.commit(ctx, s.requests(want, ops, states), ops)
		if !errors.Is(err, errOvertaken) {
			return revs, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w: %w", store.ErrUnavailable, ctx.Err(), err)
		}
	}
}

// state is what a transaction needs to know of a key's znode.
type state struct {
	node    bool // there is a znode, perhaps a tombstone
	rev     store.Rev
	version int32
}

func (s *Store) states(ctx context.Context, want map[string]store.Rev, ops []store.Op, fresh bool) (map[string]state, error) {
	all := map[string]state{}
	for key := range want {
		all[key] = state{}
	}
	for _, o := range ops {
		all[o.Key] = state{}
	}
	keys := slices.Sorted(maps.Keys(all))
	states, err := read(ctx, s, func(l *link) ([]state, error) {
		if fresh {
			if err := l.barrier(s.barrier()); err != nil {
				return nil, err
			}
		}
		states := make([]state, len(keys))
		return states, each(len(keys), func(i int) error {
			ok, stat, err := l.conn.Exists(s.node(keys[i]))
			if err != nil || !ok {
				return err
			}
			states[i] = state{node: true, version: stat.Version}
			if stat.DataLength > 0 {
				states[i].rev = store.Rev(stat.Mzxid)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		all[key] = states[i]
	}
	return all, nil
}

func compare(want map[string]store.Rev, states map[string]state) error {
	for key, rev := range want {
		if have := states[key].rev; have != rev {
			return fmt.Errorf("%w: %q is at revision %d, want %d", store.ErrConflict, key, have, rev)
		}
	}
	return nil
}

// requests are what the servers do together. Every key's state is pinned, also where it is only
// to be deleted and is not there. A znode that is absent is pinned by creating it.
func (s *Store) requests(want map[string]store.Rev, ops []store.Op, states map[string]state) []any {
	var out []any
	written := map[string]bool{}
	for _, o := range ops {
		p, st := s.node(o.Key), states[o.Key]
		written[o.Key] = true
		if o.Delete && st.rev == 0 {
			out = append(out, s.pin(p, st)...)
			continue
		}
		if !st.node {
			out = append(out, &zk.CreateRequest{Path: p, Data: []byte{}, Acl: s.cfg.acl()})
		}
		data := []byte{}
		if !o.Delete {
			data = append(append(make([]byte, 0, len(o.Value)+1), live), o.Value...)
		}
		// A create alone would not tell its revision; a write does.
		out = append(out, &zk.SetDataRequest{Path: p, Data: data, Version: st.version})
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !written[key] {
			out = append(out, s.pin(s.node(key), states[key])...)
		}
	}
	return out
}

// pin makes a transaction fail unless the znode is still as read.
func (s *Store) pin(path string, st state) []any {
	if st.node {
		return []any{&zk.CheckVersionRequest{Path: path, Version: st.version}}
	}
	return []any{&zk.CreateRequest{Path: path, Data: []byte{}, Acl: s.cfg.acl()}, &zk.DeleteRequest{Path: path, Version: 0}}
}

// errOvertaken says that a znode changed between read and write.
var errOvertaken = errors.New("zookeeper: overtaken by another writer")

func (s *Store) commit(ctx context.Context, requests []any, ops []store.Op) ([]store.Rev, error) {
	revs := make([]store.Rev, len(ops))
	if len(requests) == 0 {
		return revs, nil
	}
	l, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	answers, err := do(ctx, s, l, func(l *link) ([]zk.MultiResponse, error) { return l.conn.Multi(requests...) })
	switch {
	case err == nil:
	case errors.Is(err, zk.ErrNodeExists), errors.Is(err, zk.ErrBadVersion), errors.Is(err, zk.ErrNoNode):
		return nil, errOvertaken
	case answered(err):
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	default:
		return nil, fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	// All writes of a transaction have one zxid.
	rev := store.Rev(0)
	for _, a := range answers {
		if a.Stat != nil {
			rev = store.Rev(a.Stat.Mzxid)
		}
	}
	for i, o := range ops {
		if !o.Delete {
			revs[i] = rev
		}
	}
	return revs, nil
}
