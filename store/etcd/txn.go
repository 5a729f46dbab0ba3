package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/store"
)

// Txn implements store.Store.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) ([]store.Rev, error) {
	if err := store.ValidTxn(conds, ops); err != nil {
		return nil, err
	}
	want, err := store.FoldConds(conds)
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()

	var ifs []clientv3.Cmp
	for key, rev := range want { // a key that does not exist has ModRevision 0
		ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(s.cfg.Prefix+key), "=", int64(rev)))
	}
	var thens []clientv3.Op
	if len(ops) == 0 { // without any operation the server takes the transaction for a read that may be stale
		thens = append(thens, clientv3.OpGet(s.cfg.Prefix, clientv3.WithCountOnly()))
	}
	for _, o := range ops {
		if o.Delete {
			thens = append(thens, clientv3.OpDelete(s.cfg.Prefix+o.Key))
		} else {
			thens = append(thens, clientv3.OpPut(s.cfg.Prefix+o.Key, string(o.Value)))
		}
	}
	resp, err := s.commit(ctx, ifs, thens)
	if err != nil {
		return nil, err
	}
	if !resp.Succeeded {
		return nil, fmt.Errorf("%w: one of %d conditions did not hold", store.ErrConflict, len(want))
	}
	revs := make([]store.Rev, len(ops))
	for i, o := range ops {
		if !o.Delete {
			revs[i] = store.Rev(resp.Header.Revision)
		}
	}
	return revs, nil
}

// commit tries again while the server says that it took nothing because it knows no leader: another may.
func (s *Store) commit(ctx context.Context, ifs []clientv3.Cmp, thens []clientv3.Op) (*clientv3.TxnResponse, error) {
	for {
		resp, err := s.client.Txn(ctx).If(ifs...).Then(thens...).Commit()
		if err == nil {
			return resp, nil
		}
		if !errors.Is(err, rpctypes.ErrNoLeader) {
			return nil, outcome(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil, unavailable(ctx, err)
		case <-time.After(leaderless):
		}
	}
}

// outcome says what an error means for the transaction. Only what a server answers before it
// proposes the transaction to the others is known to have changed nothing.
func outcome(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: the etcd server allows less: %w", store.ErrInvalid, err)
	case errors.Is(err, rpctypes.ErrNoSpace), errors.Is(err, rpctypes.ErrTooManyRequests),
		errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty),
		errors.Is(err, rpctypes.ErrInvalidAuthToken), errors.Is(err, rpctypes.ErrNotCapable):
		return unavailable(ctx, err)
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w: %w: %w", store.ErrUnknown, ctx.Err(), err)
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, err)
}
