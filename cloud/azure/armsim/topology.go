package armsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Topology is what exists, who may do what, how long things take and what goes wrong. It is what `understudy armsim
// --topology FILE` reads.
type Topology struct {
	// Location of everything. Default "westeurope".
	Location string `json:"location,omitempty"`
	// NICs, PublicAddresses and RouteTables, any number of each; ids are full ARM ids.
	NICs            []NIC           `json:"nics,omitempty"`
	PublicAddresses []PublicAddress `json:"publicAddresses,omitempty"`
	RouteTables     []RouteTable    `json:"routeTables,omitempty"`
	// Roles of the caller. None at all means everything is allowed.
	Roles []Role `json:"roles,omitempty"`
	// Latencies of operations by kind; a resource's own goes before.
	Latencies Latencies `json:"latencies,omitzero"`
	// Headers says how operations are announced. Default HeadersBoth.
	Headers Headers `json:"headers,omitempty"`
	// Faults from the start; Inject adds more.
	Faults []Fault `json:"faults,omitempty"`
}

// NIC is a network interface.
type NIC struct {
	ID string `json:"id"`
	// IPForwarding lets it receive what is not addressed to it.
	IPForwarding     bool              `json:"ipForwarding,omitempty"`
	SecurityGroup    string            `json:"securityGroup,omitempty"`
	Tags             map[string]string `json:"tags,omitempty"`
	DNSServers       []string          `json:"dnsServers,omitempty"`
	IPConfigurations []IPConfiguration `json:"ipConfigurations"`
	// Latency of each write. Default: Latencies.NIC.
	Latency api.Duration `json:"latency,omitempty"`
}

// IPConfiguration of a NIC. The first one is primary.
type IPConfiguration struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Subnet  string `json:"subnet"`
	// PublicAddress it has, by id, if any.
	PublicAddress string `json:"publicAddress,omitempty"`
}

// PublicAddress is a public address.
type PublicAddress struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// RouteTable is a route table.
type RouteTable struct {
	ID     string            `json:"id"`
	Tags   map[string]string `json:"tags,omitempty"`
	Routes []Route           `json:"routes"`
	// Latency of each write. Default: Latencies.RouteTable.
	Latency api.Duration `json:"latency,omitempty"`
}

// Route of a table. An empty NextHop means next hop type Internet.
type Route struct {
	Name    string `json:"name"`
	Prefix  string `json:"prefix"`
	NextHop string `json:"nextHop,omitempty"`
}

// Role gives the caller actions at a scope and everything below.
type Role struct {
	// Scope is an id, or "/" for everything.
	Scope string `json:"scope"`
	// Actions and NotActions with "*" as wildcard.
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions,omitempty"`
}

// Latencies of operations, virtual. 0 answers at once without an operation.
type Latencies struct {
	NIC        api.Duration `json:"nic,omitempty"`
	RouteTable api.Duration `json:"routeTable,omitempty"`
	// Request is how long every request is on its way, before it is looked at.
	Request api.Duration `json:"request,omitempty"`
	// Jitter varies each by up to this part of it, 0 to 1.
	Jitter float64 `json:"jitter,omitempty"`
	// RetryAfter is what clients are told to wait between looks at an operation, and after a refusal. Default 10s,
	// which is what the real one says.
	RetryAfter api.Duration `json:"retryAfter,omitempty"`
}

// Headers is a way to announce long-running operations.
type Headers string

// The styles.
const (
	HeadersAsync    Headers = "async"    // 200 and Azure-AsyncOperation
	HeadersLocation Headers = "location" // 202 and Location
	HeadersBoth     Headers = "both"     // 201 with both
	HeadersNone     Headers = "none"     // only the resource's provisioningState tells
	HeadersMixed    Headers = "mixed"    // one of the first three by the seed
)

// ParseTopology reads a topology from JSON. Unknown fields are refused.
func ParseTopology(b []byte) (Topology, error) {
	var t Topology
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return Topology{}, fmt.Errorf("armsim topology: %w", err)
	}
	return t, nil
}

// LoadTopology reads a topology from a JSON file.
func LoadTopology(file string) (Topology, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Topology{}, fmt.Errorf("armsim topology: %w", err)
	}
	return ParseTopology(b)
}

func (t Topology) location() string {
	if t.Location != "" {
		return t.Location
	}
	return "westeurope"
}

func (t Topology) retryAfter() time.Duration {
	if d := t.Latencies.RetryAfter.D(); d > 0 {
		return d
	}
	return 10 * time.Second
}
