package remote

import (
	"context"
	"sync/atomic"

	"github.com/understudy-ha/understudy/objstore"
)

// Gate refuses calls after Close and under ended contexts. The zero Gate is open.
type Gate struct{ closed atomic.Bool }

// Pass gives nil or why the call must not begin.
func (g *Gate) Pass(ctx context.Context, op, key string) error {
	if g.closed.Load() {
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: objstore.ErrClosed}
	}
	if err := ctx.Err(); err != nil {
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: err}
	}
	return nil
}

// Close shuts the gate.
func (g *Gate) Close() { g.closed.Store(true) }
