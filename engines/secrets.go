package engines

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/pki"
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
		return nil, fmt.Errorf("vault %s: secret %q: identity: %w", v.Name, v.KeyRef, err)
	}
	return id, nil
}

// ReadIdentity reads the node's certificate, key and CA as the agent keeps them now.
func (c Config) ReadIdentity() (node string, ca, cert, key []byte, err error) {
	var f struct{ Node, Tenant, CA, Cert, Key string }
	b, err := os.ReadFile(c.IdentityFile)
	if err != nil {
		return "", nil, nil, nil, fmt.Errorf("node identity: %w", err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return "", nil, nil, nil, fmt.Errorf("%s: %w", c.IdentityFile, err)
	}
	if _, err := pki.LoadHolder([]byte(f.Cert), []byte(f.Key)); err != nil {
		return "", nil, nil, nil, fmt.Errorf("%s: %w", c.IdentityFile, err)
	}
	return f.Tenant + "/" + f.Node, []byte(f.CA), []byte(f.Cert), []byte(f.Key), nil
}
