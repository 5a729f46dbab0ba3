package api

// Provider is something that can move addresses and routes. Whether it can shows in the groups that use it.
type Provider struct {
	Header
	Spec ProviderSpec `json:"spec"`
}

// ProviderType names a kind of provider.
type ProviderType string

// The provider types.
const (
	ProviderLinux ProviderType = "Linux"
	ProviderAzure ProviderType = "Azure"
)

// ProviderSpec has exactly the section its type names.
type ProviderSpec struct {
	Type  ProviderType   `json:"type"`
	Linux *LinuxProvider `json:"linux,omitempty"`
	Azure *AzureProvider `json:"azure,omitempty"`
}

// Effects says where the switch point is.
type Effects string

// The classes of effects.
const (
	// EffectsFabric: routers' agents switch; the loser need not be reached. Moves on the verdict.
	EffectsFabric Effects = "fabric"
	// EffectsLease: the members' agents hold the addresses under a grant. Moves when the loser's grant was released or ran out.
	EffectsLease Effects = "lease"
)

// LinuxProvider moves routes and addresses on Linux hosts by their agents.
type LinuxProvider struct {
	// Effects is fabric (default) or lease.
	Effects Effects `json:"effects,omitempty"`
}

// AzureProvider moves public addresses and routes through Azure Resource Manager.
type AzureProvider struct {
	// Endpoint of ARM. Default https://management.azure.com.
	Endpoint string `json:"endpoint,omitempty"`
	// Credential to sign in with.
	Credential AzureCredential `json:"credential,omitzero"`
	// CAFile verifies the endpoint, PEM, for private endpoints and the simulator. Default: the system's.
	CAFile string `json:"caFile,omitempty"`
}

// AzureCredential says how to sign in.
type AzureCredential struct {
	// Type is ManagedIdentity, ClientSecret, or Static (a fixed bearer token from the secret's "token", for the
	// simulator). Default ManagedIdentity.
	Type string `json:"type,omitempty"`
	// TenantID and ClientID of the identity; ClientID alone picks a user-assigned managed identity.
	TenantID string `json:"tenantID,omitempty"`
	ClientID string `json:"clientID,omitempty"`
	// SecretRef names a Secret (same tenant) with "clientSecret" or "token".
	SecretRef string `json:"secretRef,omitempty"`
}

// Secret is write-only: reading it gives its keys, never its values.
type Secret struct {
	Header
	// Data is sealed in the store. Answers carry the keys with empty values.
	Data map[string]string `json:"data"`
}

// Event is something that happened. Kept for 7 days unless set otherwise.
type Event struct {
	Header
	// Regarding is the resource it is about.
	Regarding Ref      `json:"regarding"`
	Severity  Severity `json:"severity"`
	// Code is stable and in CamelCase, like FailoverStarted.
	Code    string `json:"code"`
	Message string `json:"message"`
	// Epoch of the leader that wrote it; 0 if none leads.
	Epoch int64 `json:"epoch,omitempty"`
}
