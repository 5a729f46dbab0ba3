package azblob

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/understudy-ha/understudy/objstore/internal/remote"
)

// Config says where the container is, and who asks. One way to sign in is used: AccountKey, else SASToken, else ClientSecret with
// TenantID and ClientID, else the managed identity of this machine (ClientID chooses one that was assigned).
type Config struct {
	Account string
	// Endpoint is the account's blob service. Default https://ACCOUNT.blob.core.windows.net.
	Endpoint  string
	Container string
	// Prefix is put before every key, with a slash; "" is none.
	Prefix string

	AccountKey                       string // base64
	SASToken                         string
	TenantID, ClientID, ClientSecret string
	// CA is the PEM of the authorities to trust; "" is the system's.
	CA string
}

// Open asks nothing of the service yet.
func Open(cfg Config) (*Store, error) {
	t, err := remote.Transport(cfg.CA)
	if err != nil {
		return nil, err
	}
	endpoint := cmp.Or(cfg.Endpoint, "https://"+cfg.Account+".blob.core.windows.net")
	c, err := connect(cfg, strings.TrimSuffix(endpoint, "/")+"/"+cfg.Container, t)
	if err != nil {
		return nil, err
	}
	s := &Store{container: c, transport: t}
	if cfg.Prefix != "" {
		s.prefix = cfg.Prefix + "/"
	}
	return s, nil
}

func connect(cfg Config, at string, t *http.Transport) (*container.Client, error) {
	o := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: &http.Client{Transport: t},
		// A library that repeats a conditional put answers "exists already" for a blob that it wrote itself.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{ApplicationID: "understudy"},
	}}
	switch {
	case cfg.AccountKey != "":
		key, err := blob.NewSharedKeyCredential(cfg.Account, cfg.AccountKey)
		if err != nil {
			return nil, errors.New("credentials.accountKey: want base64, as the portal shows it") // the cause may repeat it
		}
		return container.NewClientWithSharedKeyCredential(at, key, o)
	case cfg.SASToken != "":
		return container.NewClientWithNoCredential(at+"?"+strings.TrimPrefix(cfg.SASToken, "?"), o)
	}
	cred, err := identity(cfg)
	if err != nil {
		return nil, err
	}
	return container.NewClient(at, cred, o)
}

func identity(cfg Config) (azcore.TokenCredential, error) {
	if cfg.ClientSecret != "" {
		if cfg.TenantID == "" || cfg.ClientID == "" {
			return nil, fmt.Errorf("credentials.clientSecret: want credentials.tenantID and credentials.clientID with it")
		}
		c, err := azidentity.NewClientSecretCredential(cfg.TenantID, cfg.ClientID, cfg.ClientSecret, nil)
		if err != nil {
			return nil, fmt.Errorf("credentials: tenant %q, client %q: refused by the library", cfg.TenantID, cfg.ClientID)
		}
		return c, nil
	}
	o := &azidentity.ManagedIdentityCredentialOptions{}
	if cfg.ClientID != "" {
		o.ID = azidentity.ClientID(cfg.ClientID)
	}
	return azidentity.NewManagedIdentityCredential(o)
}
