// Package hanva turns the configuration of the ha-nva daemon into resources of Understudy. It is pure: what the
// daemon asked Azure for (addresses of network interfaces, routes of tables) is handed in, or stands as a placeholder that
// the group's pause keeps from doing harm.
package hanva

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// The daemon's own defaults, in milliseconds and failures.
const (
	defaultThreshold = 3
	defaultTimeout   = 10000
	defaultInterval  = 3000
)

// Options of a conversion.
type Options struct {
	// Group and Provider name the resources; a Secret is named after the provider. Default "nva" and "azure".
	Group, Provider string
	// Facts known of Azure.
	Facts Facts
}

// Result of a conversion.
type Result struct {
	// Objects in the order in which they are applied. Each is valid.
	Objects []api.Object
	// Warnings say what has no counterpart, what was assumed and what is to be filled in, each beginning with the field.
	Warnings []string
	// Placeholders tells that addresses or routes are made up; the group is paused then.
	Placeholders bool
}

// Convert turns the daemon's file into a Provider, its Secret if there is one, and an ApplianceGroup. What the daemon would
// refuse is refused, as an *api.Invalid.
func Convert(doc []byte, o Options) (Result, error) {
	file, unknown, err := parse(doc)
	if err != nil {
		return Result{}, err
	}
	if o.Group == "" {
		o.Group = "nva"
	}
	if o.Provider == "" {
		o.Provider = "azure"
	}
	c := &conversion{o: o}
	if len(file.Daemon.Monitors) == 0 {
		c.bad.Add("daemon.monitors", "", "at least one monitor")
		return Result{}, c.bad.Err()
	}
	c.leftovers(file, unknown)
	s := file.Daemon.Monitors[0].Settings
	objects := append(c.provider(s.Azure), c.group(s))
	if err := c.bad.Err(); err != nil {
		return Result{}, err
	}
	for _, x := range objects {
		if err := check(x); err != nil {
			return Result{}, fmt.Errorf("%s/%s: %w", x.Head().Kind, x.Head().Metadata.Name, err)
		}
	}
	return Result{Objects: objects, Warnings: c.warnings, Placeholders: c.made.used > 0 || c.guessedRoutes}, nil
}

// check validates a copy: what is given out leaves the tenant, and what else has a default, to whoever applies it.
func check(o api.Object) error {
	doc, err := json.Marshal(o)
	if err != nil {
		return err
	}
	filled, err := api.Decode(doc)
	if err != nil {
		return err
	}
	filled.Default()
	return filled.Validate()
}

// conversion is one run of Convert.
type conversion struct {
	o             Options
	bad           api.Invalid
	warnings      []string
	made          placeholders
	guessedRoutes bool
}

// at is where the settings of the monitor that counts stand.
const at = "daemon.monitors[0].settings."

func (c *conversion) warn(field, format string, args ...any) {
	c.warnings = append(c.warnings, field+": "+fmt.Sprintf(format, args...))
}

// leftovers warns of what has no counterpart.
func (c *conversion) leftovers(file config, unknown []string) {
	if s := file.Zookeeper.ConnectionString; s != "" {
		c.warn("zookeeper.connectionString", "belongs to the controllers: understudy server --store zookeeper --store-endpoints %s keeps their state in the same ensemble; without it they need none", s)
	}
	if file.Zookeeper.RetrySleepTime != nil || file.Zookeeper.NumberOfRetries != nil || file.Zookeeper.LeaderSelectorPath != "" {
		c.warn("zookeeper", "retrySleepTime, numberOfRetries and leaderSelectorPath have no counterpart; see --lease-ttl of understudy server")
	}
	if file.Daemon.ShutdownAwaitTime != nil {
		c.warn("daemon.shutdownAwaitTime", "has no counterpart: a job goes on under the next leader")
	}
	first := file.Daemon.Monitors[0]
	if !strings.HasSuffix(first.MonitorClass, "AzureProbeMonitor") {
		c.warn("daemon.monitors[0].monitorClass", "%q is not the daemon's AzureProbeMonitor; its settings are read as if it were", first.MonitorClass)
	}
	for i := range file.Daemon.Monitors[1:] {
		c.warn(fmt.Sprintf("daemon.monitors[%d]", i+1), "left out: the daemon ran the first monitor only; convert it from a file of its own")
	}
	for _, field := range unknown {
		c.warn(field, "has no counterpart and is left out")
	}
}

func (c *conversion) header(kind api.Kind, name string) api.Header {
	return api.Header{APIVersion: api.Version, Kind: kind, Metadata: api.Metadata{Name: name}}
}

// provider converts the sign-in.
func (c *conversion) provider(a azureSettings) []api.Object {
	p := &api.Provider{Header: c.header(api.KindProvider, c.o.Provider)}
	p.Spec.Type = api.ProviderAzure
	sp := a.ServicePrincipal
	if sp.ClientSecret == "" {
		p.Spec.Azure = &api.AzureProvider{Credential: api.AzureCredential{Type: api.CredentialManagedIdentity}}
		c.warn(at+"azure.servicePrincipal", "a certificate from a key store cannot be used: the controllers sign in by their managed identity; or set credential type ClientSecret, tenantID, clientID and secretRef")
		return []api.Object{p}
	}
	secret := &api.Secret{Header: c.header(api.KindSecret, c.o.Provider), Data: map[string]string{"clientSecret": sp.ClientSecret}}
	p.Spec.Azure = &api.AzureProvider{Credential: api.AzureCredential{Type: api.CredentialClientSecret, TenantID: sp.TenantID, ClientID: sp.ClientID, SecretRef: c.o.Provider}}
	c.warn(at+"azure.servicePrincipal.clientSecret", "stands in the Secret %s: keep the output to yourself", c.o.Provider)
	return []api.Object{secret, p}
}

// probe converts the times; the daemon's are kept even where ours are shorter.
func (c *conversion) probe(s settings) api.Probe {
	threshold, timeout, interval := or(s.NumberOfFailuresThreshold, defaultThreshold), or(s.ProbeConnectTimeout, defaultTimeout), or(s.ProbePollingInterval, defaultInterval)
	p := api.Probe{Protocol: api.ProbeTCP, Fall: threshold, Timeout: millis(timeout), Interval: millis(interval)}
	detect := time.Duration(threshold)*p.Interval.D() + p.Timeout.D()
	c.warn(at+"probePollingInterval", "with these times a dead appliance is noticed after %v; the balanced profile's (leave spec.probe.interval, timeout and fall out) do so after 4s", detect)
	return p
}

func or(v *int, otherwise int) int {
	if v == nil {
		return otherwise
	}
	return *v
}

func millis(n int) api.Duration { return api.Duration(time.Duration(n) * time.Millisecond) }
