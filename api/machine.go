package api

// ProtectedMachine is a machine whose disks are captured write by write at its source site, kept in a vault at the
// recovery site, and booted there from any point: in a drill or for real, and back again.
type ProtectedMachine struct {
	Header
	Spec   MachineSpec   `json:"spec"`
	Status MachineStatus `json:"status,omitzero"`
}

// MachineSpec is what people want of a machine.
type MachineSpec struct {
	// UID is the machine's identity for life; its streams are named after it. Set by the server, never reused.
	UID string `json:"uid,omitempty"`
	// Paused stops repairs and replication jobs that nobody asked for. Shipping goes on; see the Pause operation for that.
	Paused bool `json:"paused,omitempty"`
	// Source is where the machine runs in peace.
	Source MachineSource `json:"source"`
	// Disks, 1 to 60, in the order the machine sees them. A disk belongs to one machine.
	Disks []MachineDisk `json:"disks"`
	// VM is how the hypervisor runs it, at either site. Without it, something else runs the machine and attaches to the served disks.
	VM *VirtualMachine `json:"vm,omitempty"`
	// Policy names the ReplicationPolicy (same tenant).
	Policy string `json:"policy"`
	// ProcessServer names one of the source's site with role Protection; another one may take over at any time.
	ProcessServer string `json:"processServer"`
	// Vault names the Vault of the recovery's site that keeps the machine.
	Vault string `json:"vault"`
	// Recovery is where it runs when its site is gone.
	Recovery MachineRecovery `json:"recovery"`
	// Failback is what the way back needs; without it there is no Reprotect.
	Failback *MachineFailback `json:"failback,omitempty"`
	// Check tells when the machine's service answers, at its source.
	Check *ServiceCheck `json:"check,omitempty"`
	// Freeze are the hooks around app-consistent points.
	Freeze FreezeHooks `json:"freeze,omitzero"`
	// StopTimeout is how long the guest may take to shut down: 0s to 1h. Default 2m.
	StopTimeout Duration `json:"stopTimeout,omitempty"`
	// QueueBytes bounds the memory for writes that are not shipped yet: 1 MiB to 64 GiB. Default 256 MiB.
	QueueBytes int64 `json:"queueBytes,omitempty"`
	// Overrides accepts, by name, what admission would refuse: StoreInReach, VaultInReach, KeyInReach (they are lost with the source's site).
	Overrides []string `json:"overrides,omitempty"`
}

// The overrides.
const (
	OverrideStore = "StoreInReach"
	OverrideVault = "VaultInReach"
	OverrideKey   = "KeyInReach"
)

// MachineSource is where a machine runs in peace.
type MachineSource struct {
	// Site (same tenant) that the machine is protected from.
	Site string `json:"site"`
	// Fabric of the site.
	Fabric string `json:"fabric"`
	// Node of the fabric that serves the disks and runs the machine.
	Node string `json:"node"`
	// Listen is where the disks are served by NBD, each under its name: "unix:/path" or "tcp:host:port". Default: the engine's own socket.
	Listen string `json:"listen,omitempty"`
}

// MachineRecovery is where a machine runs when its site is gone.
type MachineRecovery struct {
	// Site (same tenant), another one than the source's.
	Site string `json:"site"`
	// Fabric of the site.
	Fabric string `json:"fabric"`
	// Node of the fabric that runs drills and, after a failover, the machine.
	Node string `json:"node"`
	// NICs replace those of vm there, if given.
	NICs []VirtualNIC `json:"nics,omitempty"`
	// TestNetwork replaces them in drills. Default: none of the cards has a cable. Only user, isolated and none: a drill
	// must not meet the machine it rehearses.
	TestNetwork []VirtualNIC `json:"testNetwork,omitempty"`
	// Check tells when the service answers there. Without one a started VM is taken as enough.
	Check *ServiceCheck `json:"check,omitempty"`
	// TestCheck is the same for drills.
	TestCheck *ServiceCheck `json:"testCheck,omitempty"`
	// Listen as at the source.
	Listen string `json:"listen,omitempty"`
	// QuotaBytes bounds the local files of a drill and of a failover each; 0, the default, for no bound.
	QuotaBytes int64 `json:"quotaBytes,omitempty"`
	// HydrateKbps bounds the fetching of the rest in the background; 0, the default: as fast as it goes.
	HydrateKbps int64 `json:"hydrateKbps,omitempty"`
}

// MachineFailback is what the way back needs.
type MachineFailback struct {
	// Vault (same tenant) of the source's site.
	Vault string `json:"vault"`
	// ProcessServer (same tenant) of the recovery's site with role Reprotection.
	ProcessServer string `json:"processServer"`
}

// FreezeHooks run on the node around an app-consistent point.
type FreezeHooks struct {
	// Pre and Post name files in the agent's hooks directory; no path, no arguments.
	Pre  string `json:"pre,omitempty"`
	Post string `json:"post,omitempty"`
}
