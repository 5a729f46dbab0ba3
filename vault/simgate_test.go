package vault

import (
	"context"

	"github.com/understudy-ha/understudy/objstore"
)

// gate is the store as actors see it: before each call the actor waits for its turn, and after its end the store does not answer.
type gate struct {
	objstore.Store
	w *world
}

func (g gate) pass(op, key string) error {
	if g.w.yield() {
		return nil
	}
	return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: context.Canceled}
}

func (g gate) Get(ctx context.Context, key string) ([]byte, objstore.Tag, error) {
	if err := g.pass("get", key); err != nil {
		return nil, "", err
	}
	return g.Store.Get(ctx, key)
}

func (g gate) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := g.pass("get range of", key); err != nil {
		return nil, err
	}
	return g.Store.GetRange(ctx, key, off, n)
}

func (g gate) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := g.pass("head", key); err != nil {
		return objstore.Info{}, err
	}
	return g.Store.Head(ctx, key)
}

func (g gate) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (objstore.Tag, error) {
	if err := g.pass("put", key); err != nil {
		return "", err
	}
	return g.Store.Put(ctx, key, data, cond)
}

func (g gate) Delete(ctx context.Context, key string) error {
	if err := g.pass("delete", key); err != nil {
		return err
	}
	return g.Store.Delete(ctx, key)
}

func (g gate) List(ctx context.Context, prefix, after string, yield func(objstore.Info) bool) error {
	if err := g.pass("list", prefix); err != nil {
		return err
	}
	return g.Store.List(ctx, prefix, after, yield)
}
