package api

import (
	"net/netip"
	"net/url"
)

// Validate implements Object.
func (p *Provider) Validate() error {
	var e Invalid
	e.header(&p.Header, KindProvider)
	s := p.Spec
	oneOf(&e, "spec.type", s.Type, ProviderLinux, ProviderAzure)
	if s.Linux != nil && s.Type != ProviderLinux {
		e.Add("spec.linux", "a section", "none: spec.type is "+string(s.Type))
	}
	if s.Azure != nil && s.Type != ProviderAzure {
		e.Add("spec.azure", "a section", "none: spec.type is "+string(s.Type))
	}
	if s.Linux != nil && s.Type == ProviderLinux {
		oneOf(&e, "spec.linux.effects", s.Linux.Effects, EffectsFabric, EffectsLease)
	}
	if s.Azure != nil && s.Type == ProviderAzure {
		e.azure(s.Azure)
	}
	return e.Err()
}

func (e *Invalid) azure(a *AzureProvider) {
	c := a.Credential
	if c.Type != CredentialStatic || !loopbackHTTP(a.Endpoint) {
		e.url("spec.azure.endpoint", a.Endpoint, "https")
	}
	oneOf(e, "spec.azure.credential.type", c.Type, CredentialManagedIdentity, CredentialClientSecret, CredentialStatic)
	const secret = "spec.azure.credential.secretRef"
	switch c.Type {
	case CredentialManagedIdentity:
		if c.SecretRef != "" {
			e.Add(secret, quote(c.SecretRef), "none with ManagedIdentity")
		}
	case CredentialClientSecret:
		if c.TenantID == "" {
			e.Add("spec.azure.credential.tenantID", "", "the directory's id, which ClientSecret needs")
		}
		if c.ClientID == "" {
			e.Add("spec.azure.credential.clientID", "", "the application's id, which ClientSecret needs")
		}
		e.name(secret, c.SecretRef)
	case CredentialStatic:
		e.name(secret, c.SecretRef)
	}
}

// loopbackHTTP tells whether an endpoint is plain HTTP on the controller's own machine: a simulator, which has no
// certificate and gets no credential worth anything.
func loopbackHTTP(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}
