package vault

import (
	"context"
	"strings"

	"github.com/understudy-ha/understudy/objstore"
)

// ResourceNames lists what the mirror holds, by kind, tenant and name, without data: names are no secret, and whoever keeps the mirror
// need not be able to read it.
func (v *Vault) ResourceNames(ctx context.Context) ([]Resource, error) {
	var out []Resource
	err := v.store.List(ctx, "resources/", "", func(i objstore.Info) bool {
		if name := strings.Split(i.Key, "/"); len(name) == 4 {
			out = append(out, Resource{Kind: name[1], Tenant: name[2], Name: name[3]})
		}
		return true
	})
	return out, err
}
