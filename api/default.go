package api

import (
	"strings"
	"time"
)

func (h *Header) fill(k Kind) {
	if h.APIVersion == "" {
		h.APIVersion = Version
	}
	if h.Kind == "" {
		h.Kind = k
	}
	if h.Metadata.Tenant == "" {
		h.Metadata.Tenant = DefaultTenant
	}
}

// Default implements Object.
func (n *Node) Default() { n.fill(KindNode) }

// Default implements Object.
func (j *Job) Default() { j.fill(KindJob) }

// Default implements Object.
func (e *Event) Default() { e.fill(KindEvent) }

// Default implements Object.
func (s *Secret) Default() { s.fill(KindSecret) }

// Defaults of an Azure provider.
const (
	DefaultARMEndpoint = "https://management.azure.com"
	// CredentialManagedIdentity, CredentialClientSecret and CredentialStatic are the types of AzureCredential.
	CredentialManagedIdentity = "ManagedIdentity"
	CredentialClientSecret    = "ClientSecret"
	CredentialStatic          = "Static"
)

// Default implements Object.
func (p *Provider) Default() {
	p.fill(KindProvider)
	if p.Spec.Type == ProviderLinux {
		if p.Spec.Linux == nil {
			p.Spec.Linux = &LinuxProvider{}
		}
		setIfZero(&p.Spec.Linux.Effects, EffectsFabric)
	}
	if p.Spec.Type == ProviderAzure {
		if p.Spec.Azure == nil {
			p.Spec.Azure = &AzureProvider{}
		}
		setIfZero(&p.Spec.Azure.Endpoint, DefaultARMEndpoint)
		setIfZero(&p.Spec.Azure.Credential.Type, CredentialManagedIdentity)
	}
}

// ProbeDefaults gives what a profile sets: interval, timeout, rise and fall.
func ProbeDefaults(p Profile) Probe {
	if p == ProfileFast {
		return Probe{Interval: Duration(15 * time.Millisecond), Timeout: Duration(30 * time.Millisecond), Rise: 10, Fall: 5}
	}
	return Probe{Interval: Duration(time.Second), Timeout: Duration(time.Second), Rise: 2, Fall: 3}
}

// Default implements Object.
func (g *ApplianceGroup) Default() {
	g.fill(KindApplianceGroup)
	s := &g.Spec
	setIfZero(&s.Mode, ActivePassive)
	setIfZero(&s.Profile, ProfileBalanced)
	d := ProbeDefaults(s.Profile)
	setIfZero(&s.Probe.Protocol, ProbeTCP)
	if s.Probe.Protocol != ProbeTCP {
		setIfZero(&s.Probe.Path, "/")
	}
	setIfZero(&s.Probe.Interval, d.Interval)
	setIfZero(&s.Probe.Timeout, d.Timeout)
	setIfZero(&s.Probe.Rise, d.Rise)
	setIfZero(&s.Probe.Fall, d.Fall)
	for i := range s.RouteTables {
		for j := range s.RouteTables[i].Routes {
			r := &s.RouteTables[i].Routes[j]
			setIfZero(&r.Name, routeName(r.Prefix))
		}
	}
	setIfZero(&s.Failover.Policy, Automatic)
	setIfZero(&s.Failover.Damping.Moves, 3)
	setIfZero(&s.Failover.Damping.Window, Duration(10*time.Minute))
	setIfNil(&s.Failover.Damping.Hold, 5*time.Minute)
	setIfZero(&s.Failback.Policy, Manual)
	setIfNil(&s.Failback.Hold, 5*time.Minute)
	defaultHooks(s.Hooks.Before)
	defaultHooks(s.Hooks.After)
}

func defaultHooks(hooks []Hook) {
	for i := range hooks {
		setIfZero(&hooks[i].Timeout, Duration(10*time.Second))
	}
}

// routeName is the default name of a route: its prefix with what Azure does not allow replaced.
func routeName(prefix string) string {
	return strings.NewReplacer("/", "-", ".", "-", ":", "-").Replace(prefix)
}

func setIfZero[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func setIfNil(p **Duration, v time.Duration) {
	if *p == nil {
		d := Duration(v)
		*p = &d
	}
}
