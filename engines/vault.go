package engines

import (
	"context"
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/open"
	"github.com/understudy-ha/understudy/vault"
)

// OpenedVault is a vault with the store it lies in.
type OpenedVault struct {
	*vault.Vault
	store objstore.Store
}

// Close lets go of the store.
func (v *OpenedVault) Close() error { return v.store.Close() }

// OpenVault opens a vault; with its key if the section names it. Cache is a directory for decrypted blocks, or "".
func (c Config) OpenVault(ctx context.Context, a api.VaultAccess, cache string) (*OpenedVault, error) {
	creds, err := c.Credentials(a)
	if err != nil {
		return nil, err
	}
	o := vault.Options{Cache: cache}
	if a.KeyRef != "" {
		if o.Identity, err = c.Identity(a); err != nil {
			return nil, err
		}
	}
	store, err := open.Store(ctx, a.URL, creds)
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", a.Name, err)
	}
	v, err := vault.Open(ctx, store, o)
	if errors.Is(err, vault.ErrNoVault) && a.Recipient != "" {
		if err = objstore.CheckConditions(ctx, store); err == nil { // fencing stands on them
			v, err = vault.Create(ctx, store, a.Recipient, o)
		}
		if errors.Is(err, vault.ErrExists) { // somebody else was faster
			v, err = vault.Open(ctx, store, o)
		}
	}
	if err == nil && a.Recipient != "" && v.Root().Recipient != a.Recipient {
		err = fmt.Errorf("it is sealed to %s, the Vault resource says %s", v.Root().Recipient, a.Recipient)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vault %s: %w", a.Name, err), store.Close())
	}
	return &OpenedVault{v, store}, nil
}
