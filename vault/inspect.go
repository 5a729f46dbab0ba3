package vault

import (
	"context"

	"github.com/understudy-ha/understudy/journal"
)

// InspectObject describes a segment or a layer's part by its key, whoever refers to it.
func (v *Vault) InspectObject(ctx context.Context, key string) (journal.Info, error) {
	ids, err := v.identities("inspect", key)
	if err != nil {
		return journal.Info{}, err
	}
	i, err := v.store.Head(ctx, key)
	if err != nil {
		return journal.Info{}, err
	}
	return journal.Inspect(key, &rangeReader{ctx: ctx, s: v.store, key: key, size: i.Size, width: window}, i.Size, ids...)
}
