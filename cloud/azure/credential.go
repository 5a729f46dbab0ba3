package azure

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/understudy-ha/understudy/api"
)

// The credential types of api.AzureCredential.
const (
	ManagedIdentity = "ManagedIdentity"
	ClientSecret    = "ClientSecret"
	Static          = "Static"
)

// newCredential gives the way to sign in and the secrets it holds, which are to be kept out of all text.
func newCredential(c api.AzureCredential, secret func(string) (map[string]string, error)) (azcore.TokenCredential, []string, error) {
	switch c.Type {
	case "", ManagedIdentity:
		o := &azidentity.ManagedIdentityCredentialOptions{}
		if c.ClientID != "" {
			o.ID = azidentity.ClientID(c.ClientID)
		}
		cred, err := azidentity.NewManagedIdentityCredential(o)
		if err != nil {
			return nil, nil, fmt.Errorf("credential: %w", err)
		}
		return cred, nil, nil
	case ClientSecret:
		s, err := secretValue(c, secret, "clientSecret")
		if err != nil {
			return nil, nil, err
		}
		cred, err := azidentity.NewClientSecretCredential(c.TenantID, c.ClientID, s, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("credential: %w", redactor{[]string{s}}.wrap(err))
		}
		return cred, []string{s}, nil
	case Static:
		s, err := secretValue(c, secret, "token")
		if err != nil {
			return nil, nil, err
		}
		return staticToken(s), []string{s}, nil
	}
	return nil, nil, fmt.Errorf("credential.type %q: want ManagedIdentity, ClientSecret or Static", c.Type)
}

func secretValue(c api.AzureCredential, secret func(string) (map[string]string, error), field string) (string, error) {
	if c.SecretRef == "" || secret == nil {
		return "", fmt.Errorf("credential.secretRef %q: want the name of a Secret with %q", c.SecretRef, field)
	}
	data, err := secret(c.SecretRef)
	if err != nil {
		return "", fmt.Errorf("credential.secretRef %q: %w", c.SecretRef, err)
	}
	if data[field] == "" {
		return "", fmt.Errorf("credential.secretRef %q: the Secret has no %q", c.SecretRef, field)
	}
	return data[field], nil
}

// staticToken is a bearer token that never changes, for the simulator.
type staticToken string

// GetToken implements azcore.TokenCredential.
func (t staticToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// Format keeps the token out of text.
func (t staticToken) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "REDACTED") }
