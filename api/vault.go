package api

import "time"

// Vault is an object store that keeps machines' streams and recovery points, at the site where machines are recovered.
type Vault struct {
	Header
	Spec   VaultSpec   `json:"spec"`
	Status VaultStatus `json:"status,omitzero"`
}

// VaultStatus is what the leader says of a vault that machines use.
type VaultStatus struct {
	// Mirror of the resources that `understudy server recover` would find there.
	Mirror     *MirrorStatus `json:"mirror,omitempty"`
	Conditions []Condition   `json:"conditions,omitempty"`
}

// MirrorStatus tells how fresh a mirror is.
type MirrorStatus struct {
	// At is when the mirror was last known to be whole. It is looked at every 10m, and on every change.
	At time.Time `json:"at"`
	// Objects in it. Withheld lists the Secrets that are left out since they open vaults; whoever recovers gives them again.
	Objects  int      `json:"objects"`
	Withheld []string `json:"withheld,omitempty"`
}

// RetentionTier is a preset of how long a vault keeps points at most.
type RetentionTier string

// The tiers.
const (
	TierPremium  RetentionTier = "premium"  // 24h
	TierStandard RetentionTier = "standard" // 72h
	TierOwn      RetentionTier = "own"      // maxRetention, up to 15 days
)

// MaxRetention is the longest that any vault keeps points.
const MaxRetention = 15 * 24 * time.Hour

// VaultSpec says where it is and who may open it.
type VaultSpec struct {
	// Site (same tenant) where the object store stands. It must outlive the site whose machines it keeps.
	Site string `json:"site"`
	// URL of the object store: file:///dir, azblob://account/container/prefix or s3://bucket/prefix. It may carry
	// parameters of its kind (?endpoint=…), never a credential.
	URL string `json:"url"`
	// CredentialsRef names the Secret (same tenant) with what the object store asks for; none for file.
	CredentialsRef string `json:"credentialsRef,omitempty"`
	// Recipient is the age public key (age1…) that everything is encrypted to. Sources need nothing else.
	Recipient string `json:"recipient"`
	// KeyRef names the Secret (same tenant) whose "identity" is the age identity that opens the vault. It is sent only to
	// nodes that read: those where machines are recovered, and the keeper.
	KeyRef string `json:"keyRef"`
	// Keeper names the Node (same tenant) that compacts, prunes and collects the vault; one of the vault's site.
	Keeper string `json:"keeper"`
	// Tier bounds every policy's retention: premium 24h, standard 72h, the default, or own.
	Tier RetentionTier `json:"tier,omitempty"`
	// MaxRetention with tier own: 1h to 360h. Otherwise what the tier says.
	MaxRetention Duration `json:"maxRetention,omitempty"`
}

// Access is how an engine reaches the vault; with key if it reads.
func (v *Vault) Access(key bool) VaultAccess {
	a := VaultAccess{Name: v.Metadata.Name, URL: v.Spec.URL, Recipient: v.Spec.Recipient, CredentialsRef: v.Spec.CredentialsRef}
	if key {
		a.KeyRef = v.Spec.KeyRef
	}
	return a
}

// ReplicationPolicy says how fresh a machine's copy must be and how long its past is kept.
type ReplicationPolicy struct {
	Header
	Spec PolicySpec `json:"spec"`
}

// PolicySpec is what people want of replication.
type PolicySpec struct {
	// RPOThreshold raises an event and a condition when the copy is older. 1m to 24h. Default 15m. It is watched, not enforced.
	RPOThreshold Duration `json:"rpoThreshold,omitempty"`
	// Retention of recovery points: 1h to 360h, at most the vault's. Default 24h. All points of the last 2h are kept; then one an hour
	// up to a day, one per 2h up to 7 days, one per 4h up to 15.
	Retention Duration `json:"retention,omitempty"`
	// AppConsistentEvery is how often the guest's file systems are frozen for a point: 1h to 12h and less than retention, or 0s for
	// never. Default 1h.
	AppConsistentEvery *Duration `json:"appConsistentEvery,omitempty"`
	// CrashConsistentEvery is how often a point is made without asking the guest: 1s to 1h. Default 5s. A point costs one record.
	CrashConsistentEvery Duration `json:"crashConsistentEvery,omitempty"`
}

// FailbackPolicy is made with every policy and holds on the way back: RPO 15 min, retention 24 h, app-consistent hourly. It is
// not editable.
func FailbackPolicy() PolicySpec {
	var p PolicySpec
	p.fill()
	return p
}

// AppEvery is AppConsistentEvery, 0 for never.
func (p PolicySpec) AppEvery() Duration {
	if p.AppConsistentEvery == nil {
		return 0
	}
	return *p.AppConsistentEvery
}
