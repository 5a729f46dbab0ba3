package server

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/azure"
)

// drivers keeps one driver for each provider, made anew when the provider or its secret changes.
type drivers struct {
	s  *Server
	mu sync.Mutex
	by map[api.Ref]*driver
}

type driver struct {
	cloud.Driver
	version string
}

func newDrivers(s *Server) *drivers { return &drivers{s: s, by: map[api.Ref]*driver{}} }

// secretTimeout bounds the reading of a provider's secret.
const secretTimeout = 5 * time.Second

// of gives the driver of a provider.
func (d *drivers) of(p *api.Provider) (cloud.Driver, error) {
	if p == nil {
		return nil, fmt.Errorf("%w: the group's provider is gone", cloud.ErrPermanent)
	}
	if p.Spec.Type != api.ProviderAzure {
		return nil, fmt.Errorf("%w: provider %s of type %s has no steps of its own", cloud.ErrPermanent, p.Metadata.Name, p.Spec.Type)
	}
	secret := api.Ref{Kind: api.KindSecret, Tenant: p.Metadata.Tenant, Name: p.Spec.Azure.Credential.SecretRef}
	version := fmt.Sprintf("%d %s", p.Metadata.Generation, etag(d.s.hub.entry(api.ObjectKey(secret)).Rev))
	d.mu.Lock()
	defer d.mu.Unlock()
	if have := d.by[p.Ref()]; have != nil && have.version == version {
		return have, nil
	}
	made, err := azure.New(azure.Config{Provider: p, Secret: func(name string) (map[string]string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), secretTimeout)
		defer cancel()
		return d.s.resources.openSecret(ctx, p.Metadata.Tenant, name)
	}})
	if err != nil {
		return nil, err
	}
	d.drop(p.Ref())
	d.by[p.Ref()] = &driver{made, version}
	return made, nil
}

func (d *drivers) drop(ref api.Ref) {
	if have := d.by[ref]; have != nil {
		if c, ok := have.Driver.(io.Closer); ok {
			_ = c.Close() // idle connections; nothing is lost
		}
		delete(d.by, ref)
	}
}

func (d *drivers) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ref := range d.by {
		d.drop(ref)
	}
}
