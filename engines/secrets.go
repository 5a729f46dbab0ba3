package engines

import (
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
)

// Credentials gives what the secret of a vault holds for its object store; nil if it names none.
func (c Config) Credentials(v api.VaultAccess) (map[string]string, error) {
	if v.CredentialsRef == "" {
		return nil, nil
	}
	s, ok := c.Secrets[v.CredentialsRef]
	if !ok {
		return nil, fmt.Errorf("vault %s: secret %q did not come with the config", v.Name, v.CredentialsRef)
	}
	return s, nil
}

// Identity gives the age identity that opens a vault.
func (c Config) Identity(v api.VaultAccess) (age.Identity, error) {
	s, ok := c.Secrets[v.KeyRef]
	if !ok || v.KeyRef == "" {
		return nil, fmt.Errorf("vault %s: its key, secret %q, did not come with the config", v.Name, v.KeyRef)
	}
	id, err := age.ParseX25519Identity(strings.TrimSpace(s["identity"]))
	if err != nil {
		// The cause is left out: it quotes from what should be a key.
		return nil, fmt.Errorf("vault %s: secret %q: identity: want an age identity, AGE-SECRET-KEY-1…", v.Name, v.KeyRef)
	}
	return id, nil
}
