package azure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// Config of a Driver.
type Config struct {
	// Provider, of type Azure.
	Provider *api.Provider
	// Secret gives the data of a Secret of the provider's tenant, by name. Called once, by New. May be nil for ManagedIdentity.
	Secret func(name string) (map[string]string, error)
	// Poll is how often a resource is read while its operation runs. Default 250ms: about 4 reads a second per
	// running write, of the 25 that ARM refills per subscription. Looks at the operation itself obey Retry-After. All other
	// waits are counted in it.
	Poll time.Duration
	// Transport carries the requests. Default: TLS verified by the provider's CAFile.
	Transport http.RoundTripper
}

// DefaultPoll is the default of Config.Poll.
const DefaultPoll = 250 * time.Millisecond

// parallel is how many reads Observe and Check have under way at once.
const parallel = 8

// Driver is the cloud.Driver of ARM. Safe for concurrent use; the caller keeps writes of one resource apart by the
// steps' locks, and if it does not, ARM refuses and Do tries again.
type Driver struct {
	client *client
	poll   time.Duration
}

var _ cloud.Driver = (*Driver)(nil)

// New makes a driver. It reads the secret and the CA file, and asks nothing of the cloud.
func New(c Config) (*Driver, error) {
	d, err := newDriver(c)
	if err != nil {
		name := ""
		if c.Provider != nil {
			name = c.Provider.Metadata.Name
		}
		return nil, fmt.Errorf("azure provider %s: %w", name, err)
	}
	return d, nil
}

func newDriver(c Config) (*Driver, error) {
	if c.Provider == nil || c.Provider.Spec.Azure == nil {
		return nil, errors.New("spec.azure: missing; want an Azure provider")
	}
	spec := *c.Provider.Spec.Azure
	endpoint, insecure, err := parseEndpoint(spec.Endpoint, spec.Credential.Type)
	if err != nil {
		return nil, err
	}
	cred, secrets, err := newCredential(spec.Credential, c.Secret)
	if err != nil {
		return nil, err
	}
	if c.Transport == nil {
		if c.Transport, err = newTransport(spec.CAFile); err != nil {
			return nil, err
		}
	}
	if c.Poll <= 0 {
		c.Poll = DefaultPoll
	}
	return &Driver{newClient(endpoint, cred, c.Transport, insecure, redactor{secrets}), c.Poll}, nil
}

// parseEndpoint allows plain HTTP to this machine with a static token only: that is the simulator.
func parseEndpoint(raw, credential string) (u *url.URL, insecure bool, err error) {
	if raw == "" {
		raw = DefaultEndpoint
	}
	u, err = url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, false, fmt.Errorf("endpoint %q: want https://HOST", raw)
	}
	switch u.Scheme {
	case "https":
		return u, false, nil
	case "http":
		ip := net.ParseIP(u.Hostname())
		if credential == Static && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
			return u, true, nil
		}
		return nil, false, fmt.Errorf("endpoint %q: want https; http is for a Static credential on a loopback address only", raw)
	}
	return nil, false, fmt.Errorf("endpoint %q: want https://HOST", raw)
}

// Close drops idle connections. The driver may still be used. Closing twice is safe.
func (d *Driver) Close() error {
	d.client.close()
	return nil
}

// Do carries out a routes, detach or attach step. Refusals that pass by themselves are waited out for up to 480 polls
// (2 minutes by default), as long as ARM asks. An error that is neither cloud.ErrPermanent nor cloud.ErrStale may be
// tried again: everything is read anew.
func (d *Driver) Do(ctx context.Context, token api.Token, step api.Step) (string, error) {
	ch, err := changeOf(step)
	if err != nil {
		return "", fmt.Errorf("step %s: %w: %w", step.ID, cloud.ErrPermanent, err)
	}
	outcome, err := d.converge(ctx, mark{token, ch.scope}, ch)
	if err != nil {
		return "", fmt.Errorf("step %s: %w", step.ID, err)
	}
	return outcome, nil
}
