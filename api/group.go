package api

import "time"

// ApplianceGroup is a pair (or more) of network virtual appliances of which one
// carries the traffic, the public addresses and routes that follow it, and how
// the active one is watched and replaced.
type ApplianceGroup struct {
	Header
	Spec   GroupSpec   `json:"spec"`
	Status GroupStatus `json:"status,omitzero"`
}

// Mode says how members share the work.
type Mode string

// ActivePassive: one member carries everything (L4, any protocol).
const ActivePassive Mode = "ActivePassive"

// Audience says whom a group serves.
type Audience string

// The audiences. An active-passive pair may serve all three.
const (
	ServesInternet   Audience = "Internet"
	ServesWorkload   Audience = "Workload"
	ServesOnPremises Audience = "OnPremises"
)

// Profile is a set of probe and failover defaults with a stated cost.
type Profile string

// The profiles.
const (
	// ProfileFast: probes every 15 ms, 5 of them late in a row; a dead member is left in about 0.1 s. Costs, per member, about
	// 67 connections a second from each controller.
	ProfileFast Profile = "fast"
	// ProfileBalanced: probes every second, 3 in a row; a dead member is left in about 3 s. Costs one connection a
	// second, per member, from each controller.
	ProfileBalanced Profile = "balanced"
)

// Policy says who starts a move.
type Policy string

// The policies.
const (
	Automatic Policy = "Automatic"
	Manual    Policy = "Manual"
)

// GroupSpec is what people want of a group.
type GroupSpec struct {
	// Mode is ActivePassive, the default.
	Mode Mode `json:"mode,omitempty"`
	// Serves lists whom the group serves; at least one of Internet, Workload, OnPremises.
	Serves []Audience `json:"serves"`
	// Provider names the Provider (same tenant) that moves addresses and routes.
	Provider string `json:"provider"`
	// Profile is fast or balanced, the default; it sets what Probe leaves out.
	Profile Profile `json:"profile,omitempty"`
	// Members, 2 to 8, in order of preference: the first healthy one becomes active when nobody is yet.
	Members []Member `json:"members"`
	// Probe says how members are asked whether they work.
	Probe Probe `json:"probe,omitzero"`
	// Observers says how many controllers must agree.
	Observers Observers `json:"observers,omitzero"`
	// PublicAddresses move with the active member.
	PublicAddresses []PublicAddress `json:"publicAddresses,omitempty"`
	// RouteTables are the tables whose listed routes point at the active member.
	RouteTables []RouteTable `json:"routeTables,omitempty"`
	// Failover says who starts a failover. Default Automatic.
	Failover Failover `json:"failover,omitzero"`
	// Failback says when traffic returns to the first member. Default Manual.
	Failback Failback `json:"failback,omitzero"`
	// Drain prepares a planned move.
	Drain Drain `json:"drain,omitzero"`
	// Hooks run before and after the move.
	Hooks Hooks `json:"hooks,omitzero"`
	// Paused stops automatic moves and drift repair; `understudy pause` and `resume` set it.
	Paused bool `json:"paused,omitempty"`
}

// Member is one appliance.
type Member struct {
	// Name is unique in the group.
	Name string `json:"name"`
	// Node names the Node whose agent runs on the appliance. Left out for somebody else's appliance.
	Node string `json:"node,omitempty"`
	// NICs, by name: the same name pairs NICs across members and with addresses and routes.
	NICs []NIC `json:"nics"`
	// Probe is where this member is probed: "10.0.1.4" (the port is spec.probe.port) or "10.0.1.4:8080".
	Probe string `json:"probe"`
}

// NIC is one network interface of a member.
type NIC struct {
	// Name pairs NICs across members: "outside", "inside".
	Name string `json:"name"`
	// ID is the full ARM id (Azure), or the link's name on the appliance (Linux, lease effects).
	ID string `json:"id,omitempty"`
	// Address is the NIC's private IP address: what routes name as next hop.
	Address string `json:"address"`
}

// Protocol of a probe.
type Protocol string

// The probe protocols.
const (
	ProbeTCP   Protocol = "tcp"   // the connection is accepted
	ProbeHTTP  Protocol = "http"  // a GET is answered with 200–299
	ProbeHTTPS Protocol = "https" // the same over TLS; the certificate is not verified
)

// Probe says how members are asked.
type Probe struct {
	// Protocol is tcp (default), http or https. tcp sees a dead machine; only http sees a process that hangs.
	Protocol Protocol `json:"protocol,omitempty"`
	// Port is 1–65535; needed unless every member's probe names its own.
	Port int `json:"port,omitempty"`
	// Path is what http asks for. Default "/".
	Path string `json:"path,omitempty"`
	// Interval between probes: 5ms to 1h. Default by profile: fast 15ms, balanced 1s.
	Interval Duration `json:"interval,omitempty"`
	// Timeout of one probe: 5ms to 1m. It may exceed the interval; probes then overlap. Default by profile: fast 30ms, balanced 1s.
	Timeout Duration `json:"timeout,omitempty"`
	// Rise is how many answers in a row make a member up: 1 to 100. Default by profile: fast 10, balanced 2.
	Rise int `json:"rise,omitempty"`
	// Fall is how many missing answers in a row make it down: 1 to 100. Default by profile: fast 5, balanced 3.
	Fall int `json:"fall,omitempty"`
}

// Observers says how many controllers must agree on a verdict.
type Observers struct {
	// Quorum is how many must say so. Default: more than half of the controllers.
	Quorum int `json:"quorum,omitempty"`
}

// PublicAddress is an address that moves.
type PublicAddress struct {
	Name string `json:"name"`
	// ID is the full ARM id of the public address (Azure), or "NODE" of the router that delivers it (Linux, fabric effects).
	// Left out with lease effects, where the member itself holds the address.
	ID string `json:"id,omitempty"`
	// Address is the IP address; with lease effects with its prefix length ("203.0.113.10/24"). Azure knows it by ID.
	Address string `json:"address,omitempty"`
	// NIC names the members' NIC that gets it.
	NIC string `json:"nic"`
	// IPConfiguration of that NIC, by name (Azure). Default: the primary one. Two addresses on one NIC need two.
	IPConfiguration string `json:"ipConfiguration,omitempty"`
}

// RouteTable lists the routes of one table that follow the active member. Other routes in it are left alone.
type RouteTable struct {
	// ID is the full ARM id (Azure), or "NODE" or "NODE/TABLE" (Linux: a router's agent and the kernel table, 1–4294967295, default main).
	ID string `json:"id"`
	// Routes, at least one.
	Routes []Route `json:"routes"`
	// Sources are the prefixes of the subnets that use this table, in CIDR form. From them it is told whether controllers,
	// stores or operators would be cut off by a dead appliance; left out, that is not checked for this table.
	Sources []string `json:"sources,omitempty"`
}

// Route points a prefix at the active member's NIC.
type Route struct {
	// Name of the route in the table; Azure needs it. Default: the prefix with "-" for "/" and ".".
	Name string `json:"name,omitempty"`
	// Prefix in CIDR form, its host bits zero.
	Prefix string `json:"prefix"`
	// NIC names the members' NIC whose address is the next hop.
	NIC string `json:"nic"`
}

// Failover says who starts it, and damps flapping.
type Failover struct {
	// Policy is Automatic (default) or Manual: then a dead active member only raises an alarm.
	Policy Policy `json:"policy,omitempty"`
	// Damping suspends automatic moves after many in a short time.
	Damping Damping `json:"damping,omitzero"`
}

// Damping: after Moves automatic moves within Window, the next waits until Hold has passed since the last. The times are those of day of
// the leaders that moved; one that lies ahead by more than Window is taken for a wrong clock's, and damps nothing.
type Damping struct {
	// Moves is 1 to 1000. Default 3.
	Moves int `json:"moves,omitempty"`
	// Window is 1s to 24h. Default 10m.
	Window Duration `json:"window,omitempty"`
	// Hold is 0s to 24h. Default 5m.
	Hold *Duration `json:"hold,omitempty"`
}

// Failback says when traffic returns to the first member.
type Failback struct {
	// Policy is Manual (default) or Automatic.
	Policy Policy `json:"policy,omitempty"`
	// Hold is how long the first member must have been up: 0s to 168h. Default 5m.
	Hold *Duration `json:"hold,omitempty"`
}

// Drain is how long, before a planned move, the active member's own agent says "not ready" at its health
// endpoint, so that balancers in front of it stop sending new connections.
type Drain struct {
	// Period is 0s (default: move at once) to 1h. Needs members with a node.
	Period Duration `json:"period,omitempty"`
}

// Hooks run on the leading controller. They get what moves where as JSON.
type Hooks struct {
	// Before runs before anything moves. If one fails, a planned move is Blocked; a failover goes on and says so.
	Before []Hook `json:"before,omitempty"`
	// After runs when everything has moved and was verified. A failure is reported, nothing is taken back.
	After []Hook `json:"after,omitempty"`
}

// Hook is a webhook or a program. Exactly one of URL and Exec.
type Hook struct {
	Name string `json:"name"`
	// URL gets a POST; 200–299 is success.
	URL string `json:"url,omitempty"`
	// Exec names a file in the controller's hooks directory; no path, no arguments.
	Exec string `json:"exec,omitempty"`
	// Timeout is 100ms to 1h. Default 10s.
	Timeout Duration `json:"timeout,omitempty"`
}

// Health is a verdict.
type Health string

// The verdicts.
const (
	Up      Health = "Up"
	Down    Health = "Down"
	Unknown Health = "Unknown" // too few observers have said anything lately
)

// GroupStatus is what the leader says of a group. Only Assignment is intent; it is stored by itself, and only a leader writes it.
type GroupStatus struct {
	Assignment *Assignment    `json:"assignment,omitempty"`
	Members    []MemberStatus `json:"members,omitempty"`
	Conditions []Condition    `json:"conditions,omitempty"`
}

// Assignment says who is active: the only intent there is.
type Assignment struct {
	// Active is the member's name.
	Active string `json:"active"`
	// Previous is who was active before; "" the first time.
	Previous string `json:"previous,omitempty"`
	// Epoch of the leadership that decided.
	Epoch int64 `json:"epoch"`
	// Generation counts this group's assignments, from 1.
	Generation int64 `json:"generation"`
	// SpecGeneration is the generation of the group's spec that the job was planned from.
	SpecGeneration int64 `json:"specGeneration"`
	// Job that reconciles towards it.
	Job string `json:"job"`
	// Wanted is a digest of everything that machines' nodes were to be told when the job was planned: another one means drift.
	Wanted string `json:"wanted,omitempty"`
	// Reason in words.
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	// AutomaticMoves are the times of the latest automatic moves, for damping; at most Damping.Moves.
	AutomaticMoves []time.Time `json:"automaticMoves,omitempty"`
	// Machine of a ProtectedMachine, whose Active is the name of a site; Plan of a RecoveryPlan.
	Machine *MachineAssignment `json:"machine,omitempty"`
	Plan    *PlanAssignment    `json:"plan,omitempty"`
}

// MemberStatus is what observers say of one member.
type MemberStatus struct {
	Name   string    `json:"name"`
	Health Health    `json:"health"`
	Since  time.Time `json:"since"`
	// Down, Up count the observers that say so now.
	Up   int `json:"up"`
	Down int `json:"down"`
	// Detail of the latest failed probe.
	Detail string `json:"detail,omitempty"`
}

// Request is what an operator asked of a group: stored beside it, taken away by the leader in the transaction that acts on it.
type Request struct {
	// Kind says what.
	Kind RequestKind `json:"kind"`
	// To names the member; "" lets the leader choose.
	To string    `json:"to,omitempty"`
	By string    `json:"by"`
	At time.Time `json:"at"`
	ID string    `json:"id"`
	// Operation of Operate; Completion of Complete.
	Operation  *Operation      `json:"operation,omitempty"`
	Completion *StepCompletion `json:"completion,omitempty"`
}

// RequestKind of a Request.
type RequestKind string

// The request kinds.
const (
	RequestFailover RequestKind = "Failover"
	RequestCancel   RequestKind = "Cancel" // To names the job
	RequestRetry    RequestKind = "Retry"  // To names the job

	RequestOperate  RequestKind = "Operate"  // of a machine or a recovery plan
	RequestComplete RequestKind = "Complete" // To names the job, Completion its manual step
)
