package vault

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
)

// Mail is what two sites hand each other through a vault that both reach, like the ranges to compare before a reprotect. It is not
// encrypted: the reader is not the one who has the vault's key. Whoever reads it checks what it says.

func mailKey(stream, name string) (string, error) {
	key := "mailbox/" + stream + "/" + name
	if strings.Contains(stream, "/") || strings.Contains(name, "/") {
		return "", fail("use", key, objstore.ErrInvalid, "a stream and a name have no slash")
	}
	return key, objstore.ValidKey("use", key)
}

// PutMail writes a mail, over the one of that name. Repeating it is safe.
func (v *Vault) PutMail(ctx context.Context, stream, name string, data []byte) error {
	key, err := mailKey(stream, name)
	if err != nil {
		return err
	}
	return v.putAlways(ctx, key, data)
}

// putAlways puts until the outcome is certain. A lost request that arrives late may still overwrite what somebody else puts there later.
func (v *Vault) putAlways(ctx context.Context, key string, data []byte) error {
	var err error
	for range 3 {
		if _, err = v.store.Put(ctx, key, data, objstore.Always); !errors.Is(err, objstore.ErrUnknown) {
			return err
		}
	}
	return err
}

// GetMail reads a mail; objstore.ErrNotFound if there is none.
func (v *Vault) GetMail(ctx context.Context, stream, name string) ([]byte, error) {
	key, err := mailKey(stream, name)
	if err != nil {
		return nil, err
	}
	b, _, err := v.store.Get(ctx, key)
	return b, err
}

// Mails lists the names of a stream's mails, sorted.
func (v *Vault) Mails(ctx context.Context, stream string) ([]string, error) {
	prefix, err := mailKey(stream, "x")
	if err != nil {
		return nil, err
	}
	prefix = strings.TrimSuffix(prefix, "x")
	var names []string
	err = v.store.List(ctx, prefix, "", func(i objstore.Info) bool {
		names = append(names, i.Key[len(prefix):])
		return true
	})
	return names, err
}

// DeleteMail removes a mail; that there is none is no error.
func (v *Vault) DeleteMail(ctx context.Context, stream, name string) error {
	key, err := mailKey(stream, name)
	if err != nil {
		return err
	}
	return v.store.Delete(ctx, key)
}

// Resource is one resource of the control plane, as the mirror in the vault has it.
type Resource struct {
	Kind, Tenant, Name string
	Data               []byte
}

func (r *Resource) key() (string, error) {
	key := "resources/" + r.Kind + "/" + r.Tenant + "/" + r.Name
	if slices.ContainsFunc([]string{r.Kind, r.Tenant, r.Name}, func(s string) bool { return strings.Contains(s, "/") }) {
		return "", fail("use", key, objstore.ErrInvalid, "kind, tenant and name have no slash")
	}
	return key, objstore.ValidKey("use", key)
}

func (v *Vault) resourceBinding(key string) journal.Binding {
	return journal.Binding{Type: journal.ResourceObject, Vault: v.root.ID, Stream: key}
}

// PutResource mirrors a resource, encrypted to the recovery site's key: whoever puts it need not be able to read it. Nil Data removes it.
func (v *Vault) PutResource(ctx context.Context, r Resource) error {
	key, err := r.key()
	if err != nil {
		return err
	}
	if r.Data == nil {
		return v.store.Delete(ctx, key)
	}
	sealed, err := journal.Seal(v.resourceBinding(key), r.Data, v.to)
	if err != nil {
		return err
	}
	return v.putAlways(ctx, key, sealed)
}

// Resources reads the whole mirror, by kind, tenant and name. What is damaged is left out and named by the error, with the others given.
func (v *Vault) Resources(ctx context.Context) ([]Resource, error) {
	ids, err := v.identities("read", "resources")
	if err != nil {
		return nil, err
	}
	var keys []string
	err = v.store.List(ctx, "resources/", "", func(i objstore.Info) bool {
		keys = append(keys, i.Key)
		return true
	})
	if err != nil {
		return nil, err
	}
	var out []Resource
	var bad []error
	for _, key := range keys {
		b, _, err := v.store.Get(ctx, key)
		if errors.Is(err, objstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		data, err := journal.Unseal(key, b, v.resourceBinding(key), ids...)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		name := strings.SplitN(key, "/", 4)
		out = append(out, Resource{Kind: name[1], Tenant: name[2], Name: name[3], Data: data})
	}
	return out, errors.Join(bad...)
}
