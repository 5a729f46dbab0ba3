package api

import "time"

// AccessRole is what a person may do.
type AccessRole string

// The access roles; each may do what the one before may.
const (
	Viewer   AccessRole = "viewer"   // read
	Operator AccessRole = "operator" // write groups, providers and nodes; fail over, pause, resume, cancel, retry
	Admin    AccessRole = "admin"    // write secrets, make and revoke tokens, read the audit
)

// AllTenants, as the tenant of a binding, stands for every tenant.
const AllTenants = "*"

// Allows tells whether r includes want.
func (r AccessRole) Allows(want AccessRole) bool {
	rank := map[AccessRole]int{Viewer: 1, Operator: 2, Admin: 3}
	return rank[r] >= rank[want] && rank[want] > 0
}

// TokenKind says what a token opens.
type TokenKind string

// The kinds of tokens.
const (
	TokenBearer      TokenKind = "Bearer"      // a person or program, by the Authorization header
	TokenCertificate TokenKind = "Certificate" // a person, by a client certificate
	TokenNode        TokenKind = "Node"        // one enrolment of one node
)

// Token request and description.
type (
	// TokenRequest asks for a token.
	TokenRequest struct {
		// Node asks for a one-time token of this node; otherwise User and Role say whose it is.
		Node string     `json:"node,omitempty"`
		User string     `json:"user,omitempty"`
		Role AccessRole `json:"role,omitempty"`
		// Tenant that the node or the role belongs to; "*" for every tenant. Default "default".
		Tenant string `json:"tenant,omitempty"`
		// Life until it expires: 1m to 8760h. Default: a node's 1h, a person's 8760h.
		Life Duration `json:"life,omitempty"`
		// CSR (DER PKCS#10) asks for a client certificate in place of a bearer token.
		CSR []byte `json:"csr,omitempty"`
	}
	// TokenInfo describes a token. Its secret is not kept anywhere.
	TokenInfo struct {
		ID      string     `json:"id"`
		Kind    TokenKind  `json:"kind"`
		Node    string     `json:"node,omitempty"`
		User    string     `json:"user,omitempty"`
		Role    AccessRole `json:"role,omitempty"`
		Tenant  string     `json:"tenant"`
		Created time.Time  `json:"created"`
		Expires time.Time  `json:"expires"`
		By      string     `json:"by,omitempty"`
	}
	// TokenReply is given once.
	TokenReply struct {
		TokenInfo
		// Token is the secret, shown this once. Empty with a certificate.
		Token string `json:"token,omitempty"`
		// Certificate in PEM, if a CSR was sent.
		Certificate string `json:"certificate,omitempty"`
		// CA in PEM.
		CA string `json:"ca"`
		// Controllers lists where agents enrol.
		Controllers []string `json:"controllers"`
	}
)

// ClusterStatus is what GET /v1/status answers.
type ClusterStatus struct {
	Controller string             `json:"controller"`
	Version    string             `json:"version"`
	ClusterID  string             `json:"clusterID"`
	Leader     string             `json:"leader"`
	Epoch      int64              `json:"epoch"`
	Leading    bool               `json:"leading"`
	Members    []ControllerStatus `json:"members"`
	Store      string             `json:"store"`
	Agents     []string           `json:"agents"`
}

// ControllerStatus is one controller as another sees it.
type ControllerStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// Heard tells whether its observations have arrived lately.
	Heard bool `json:"heard"`
}

// DoctorReport is what GET /v1/doctor answers.
type DoctorReport struct {
	Findings []DoctorFinding `json:"findings"`
	// Ready tells for each group ("tenant/name") whether a failover would work now, and for each machine ("tenant/machine/name") whether
	// a move to its other side would: Failover, or Failback once it is reprotected.
	Ready map[string]bool `json:"ready"`
}

// DoctorFinding is one thing that doctor found.
type DoctorFinding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`
	Resource string   `json:"resource,omitempty"`
	Message  string   `json:"message"`
	Blocks   bool     `json:"blocks,omitempty"`
}

// AuditEntry is one line of a controller's audit. Hash covers every other field and Prev, the hash of the line before.
type AuditEntry struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	From    string    `json:"from,omitempty"`
	Verb    string    `json:"verb"`
	Object  string    `json:"object,omitempty"`
	Tenant  string    `json:"tenant,omitempty"`
	Outcome string    `json:"outcome"` // ok, or the code of the refusal
	Detail  string    `json:"detail,omitempty"`
	Prev    string    `json:"prev"`
	Hash    string    `json:"hash,omitempty"`
}
