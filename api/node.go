package api

import "time"

// Node is a host, router or appliance that runs an agent.
type Node struct {
	Header
	Spec   NodeSpec   `json:"spec,omitzero"`
	Status NodeStatus `json:"status,omitzero"`
}

// NodeSpec is what people say of a node.
type NodeSpec struct {
	// Zone and Host tell where it runs; doctor warns when members of a group share one.
	Zone string `json:"zone,omitempty"`
	Host string `json:"host,omitempty"`
}

// NodeStatus is what the node's agent says of itself.
type NodeStatus struct {
	Connected bool      `json:"connected"`
	Version   string    `json:"version,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	// Drivers lists what was probed at start, like "route: kernel".
	Drivers    []string        `json:"drivers,omitempty"`
	Sections   []SectionStatus `json:"sections,omitempty"`
	Conditions []Condition     `json:"conditions,omitempty"`
}

// SectionStatus is one part of a node's config as applied.
type SectionStatus struct {
	Engine string `json:"engine"`
	Owner  string `json:"owner"`
	// Applied is the newest token that took effect.
	Applied Token  `json:"applied"`
	Error   string `json:"error,omitempty"`
	// Repaired counts how often the agent found the kernel changed by others and put it right.
	Repaired int64 `json:"repaired,omitempty"`
	// State of an engine that runs as a process of its own.
	State *EngineState `json:"state,omitempty"`
}

// Token orders every effect: first the cluster, then the epoch, then the generation.
type Token struct {
	// ClusterID names one life of the control plane's state; a restore makes a new one.
	ClusterID string `json:"clusterID"`
	// Epoch is the number of a leadership.
	Epoch int64 `json:"epoch"`
	// Generation is the owner's assignment generation.
	Generation int64 `json:"generation"`
}

// Section is one part of a node's desired config. Its owner replaces it whole.
type Section struct {
	// Engine is "routes", "addresses", "role", "protect", "processserver", "site" or "keeper".
	Engine string `json:"engine"`
	// Owner is the Ref of who wrote it, like "ApplianceGroup/default/dmz".
	Owner string `json:"owner"`
	// Generation is the owner's.
	Generation int64 `json:"generation"`
	// Payload, exactly the one the engine names.
	Routes    *RoutesConfig    `json:"routes,omitempty"`
	Addresses *AddressesConfig `json:"addresses,omitempty"`
	Role      *RoleConfig      `json:"role,omitempty"`

	Protect       *ProtectConfig       `json:"protect,omitempty"`
	ProcessServer *ProcessServerConfig `json:"processServer,omitempty"`
	Site          *SiteConfig          `json:"site,omitempty"`
	Keeper        *KeeperConfig        `json:"keeper,omitempty"`
}

// The engines of sections.
const (
	EngineRoutes    = "routes"
	EngineAddresses = "addresses"
	EngineRole      = "role"
)

// RoutesConfig is the whole set of routes an owner has on a router (fabric effects: public addresses and route
// tables alike are routes there). Routes it had before and has no more are removed.
type RoutesConfig struct {
	Routes []KernelRoute `json:"routes"`
}

// KernelRoute is one route.
type KernelRoute struct {
	// Table is the kernel's table; 0 means main (254).
	Table  uint32 `json:"table,omitempty"`
	Prefix string `json:"prefix"`
	Via    string `json:"via"`
}

// AddressesConfig is the whole set of addresses an owner holds on an appliance under a grant (lease effects). Each
// is announced when it is taken. The agent drops them when its grant runs out.
type AddressesConfig struct {
	Addresses []HeldAddress `json:"addresses"`
	// Candidates are the other nodes that may be granted the same addresses: name → address of their agent's peer
	// endpoint ("10.0.9.2:9444"). An agent that has lost every controller keeps its addresses only while each of them promises.
	Candidates map[string]string `json:"candidates,omitempty"`
}

// HeldAddress is one address on one link.
type HeldAddress struct {
	// Address with prefix length.
	Address string `json:"address"`
	Link    string `json:"link"`
}

// RoleConfig tells an appliance's agent what it is, for its health endpoint.
type RoleConfig struct {
	Role Role `json:"role"`
}

// Role of a member.
type Role string

// The roles.
const (
	RoleActive   Role = "Active"
	RolePassive  Role = "Passive"
	RoleDraining Role = "Draining"
)
