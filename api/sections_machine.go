package api

import "time"

// The engines of sections that machines need. Each runs as a child process of the agent that outlives it.
const (
	EngineProtect       = "protect"       // a machine's disks are captured and shipped
	EngineProcessServer = "processserver" // takes what protect ships and appends it to vaults
	EngineSite          = "site"          // a machine runs, or is rehearsed, from a recovery point
	EngineKeeper        = "keeper"        // compacts, prunes and collects a vault
)

// VaultAccess is how an engine reaches a vault.
type VaultAccess struct {
	// Name of the Vault resource.
	Name string `json:"name"`
	// URL of its object store: file:///dir, azblob://account/container/prefix, s3://bucket/prefix.
	URL string `json:"url"`
	// Recipient is the age public key that segments are encrypted to.
	Recipient string `json:"recipient"`
	// CredentialsRef and KeyRef name Secrets of the same tenant: what the object store asks for, and the age identity ("identity") that
	// opens the vault. Only a node whose section names a secret is sent it. KeyRef is empty where nothing is read.
	CredentialsRef string `json:"credentialsRef,omitempty"`
	KeyRef         string `json:"keyRef,omitempty"`
}

// MachineDisk is one disk as an engine sees it.
type MachineDisk struct {
	// Name is unique in the machine; its place in the list is the disk's number in the stream.
	Name string `json:"name"`
	// Path of the raw file or block device at the site.
	Path string `json:"path"`
	// Size in bytes, a multiple of 512. 0: what the path has.
	Size int64 `json:"size,omitempty"`
}

// VirtualMachine is how a machine is run by a hypervisor.
type VirtualMachine struct {
	// CPUs is 1 to 256, default 1. MemoryMiB is 32 to 16777216, default 512.
	CPUs      int `json:"cpus,omitempty"`
	MemoryMiB int `json:"memoryMiB,omitempty"`
	// Firmware is bios, the default, or uefi.
	Firmware string `json:"firmware,omitempty"`
	// Cache is how the guest's disks are opened: writeback, the default, or writethrough.
	Cache string `json:"cache,omitempty"`
	// NICs in order.
	NICs []VirtualNIC `json:"nics,omitempty"`
	// GuestAgent tells that qemu-guest-agent runs in the guest: points are then made consistent by freezing its file systems.
	GuestAgent bool `json:"guestAgent,omitempty"`
}

// VirtualNIC is one network card.
type VirtualNIC struct {
	// MAC address; made from the machine's name if left out.
	MAC string `json:"mac,omitempty"`
	// Mode: tap joins the host's network through Tap; user goes through the hypervisor's own network with Forwards;
	// isolated is user with everything else cut off, as drills run; none is a card without a cable.
	Mode string `json:"mode"`
	// Tap names an existing tap interface.
	Tap string `json:"tap,omitempty"`
	// Forwards of user and isolated: connections to Listen (an IPv4 address of the node, and a port) reach Port of the guest.
	Forwards []PortForward `json:"forwards,omitempty"`
}

// PortForward leads from the host to the guest.
type PortForward struct {
	Listen string `json:"listen"`
	Port   int    `json:"port"`
}

// ProtectConfig makes a node serve a machine's disks, and capture and ship what is written to them.
type ProtectConfig struct {
	// Machine is tenant/name, UID its identity for life, Stream the stream that its writes make.
	Machine string `json:"machine"`
	UID     string `json:"uid"`
	Stream  string `json:"stream"`
	// Mode is writable, readonly (a newer generation runs elsewhere: writes are refused), off (nothing is served; state is kept), or
	// discard (the machine was deleted: its VM is shut down, and nothing is left here but its disks).
	Mode  string        `json:"mode"`
	Disks []MachineDisk `json:"disks"`
	// Listen is where the disks are served by NBD, each under its name: "unix:/path" or "tcp:host:port". "" for the engine's own socket.
	Listen string `json:"listen,omitempty"`
	// VM, if set, is run on the disks by the local hypervisor.
	VM *VirtualMachine `json:"vm,omitempty"`
	// Run tells whether the VM should be up. A shutdown is graceful for StopTimeout, then hard.
	Run         bool     `json:"run,omitempty"`
	StopTimeout Duration `json:"stopTimeout,omitempty"`
	// ProcessServers (host:port) in order of preference; none: writes are only remembered as dirty.
	ProcessServers []string `json:"processServers,omitempty"`
	// Points: how often a crash-consistent and an app-consistent point is made; 0 for never.
	CrashEvery Duration `json:"crashEvery,omitempty"`
	AppEvery   Duration `json:"appEvery,omitempty"`
	// PreScript and PostScript run around an app-consistent point: files in the agent's hooks directory.
	PreScript  string `json:"preScript,omitempty"`
	PostScript string `json:"postScript,omitempty"`
	// PointNow asks for one more point; a new value makes one, none makes none. PointApp: app-consistent. Together with a VM that is
	// to stop, the point is made after it has stopped.
	PointNow string `json:"pointNow,omitempty"`
	PointApp bool   `json:"pointApp,omitempty"`
	// QueueBytes bounds the memory that holds what was captured and not taken yet. Default 256 MiB.
	QueueBytes int64 `json:"queueBytes,omitempty"`
	// Yield, if set, hands the past over: never-shipped writes become a branch, and the set to compare goes into the mailbox.
	Yield *YieldConfig `json:"yield,omitempty"`
	// Restart names a full resynchronisation; a new value starts one.
	Restart string `json:"restart,omitempty"`
}

// YieldConfig is what an old primary does at reprotect.
type YieldConfig struct {
	// Branch is the stream that keeps its never-shipped writes, on top of Stream at the position stored last.
	Branch string `json:"branch"`
	// Home is the vault that Stream is in; the branch goes there.
	Home VaultAccess `json:"home"`
	// Into is the vault that the other side will ship into; the two sides leave each other mail there.
	Into VaultAccess `json:"into"`
	// For is the stream that the other side will ship.
	For string `json:"for"`
}

// SiteConfig runs a machine from a recovery point at a node of the site: for real, or as a drill.
type SiteConfig struct {
	Machine string `json:"machine"`
	UID     string `json:"uid"`
	// Instance names this run: a directory of its own. A drill and a failover of one machine have different ones.
	Instance string `json:"instance"`
	Drill    bool   `json:"drill,omitempty"`
	// Vault, Stream and Seq name the point.
	Vault  VaultAccess `json:"vault"`
	Stream string      `json:"stream"`
	Seq    uint64      `json:"seq"`
	// Disks: Path is the local file that becomes the disk ("" for one in the instance's directory); InPlace says that Path is the old
	// primary's disk, whose blocks stand unless the stream has newer ones.
	Disks   []MachineDisk `json:"disks"`
	InPlace bool          `json:"inPlace,omitempty"`
	// QuotaBytes bounds what the local files take; 0 for no bound. When it is reached the guest waits.
	QuotaBytes int64 `json:"quotaBytes,omitempty"`
	// Hydrate fetches the rest in the background, at most HydrateKbps (0: as fast as it goes).
	Hydrate     bool  `json:"hydrate,omitempty"`
	HydrateKbps int64 `json:"hydrateKbps,omitempty"`
	// Mode is writable, readonly (a newer generation runs elsewhere), or off (the VM is stopped, nothing is served); discard also removes
	// the instance's files, but for disks in place, which become whole.
	Mode        string          `json:"mode"`
	VM          *VirtualMachine `json:"vm,omitempty"`
	Run         bool            `json:"run,omitempty"`
	StopTimeout Duration        `json:"stopTimeout,omitempty"`
	Listen      string          `json:"listen,omitempty"`
	// Check tells when the machine's service answers.
	Check *ServiceCheck `json:"check,omitempty"`
	// Capture, if set, numbers every write from the first on, in this stream.
	Capture string `json:"capture,omitempty"`
	// Ship, if set, ships that stream: reprotect.
	Ship *ShipConfig `json:"ship,omitempty"`
	// Yield, if set, hands the past over, as in ProtectConfig.
	Yield *YieldConfig `json:"yield,omitempty"`
}

// ShipConfig is how a recovered machine's writes are shipped.
type ShipConfig struct {
	ProcessServers []string `json:"processServers"`
	// Into is the vault of the other site, where the old primary's mail lies.
	Into VaultAccess `json:"into"`
	// Base is what the stream stands on. disk: the old primary's disks, and only what differs from them is shipped, once its letter
	// is there. stream: BaseStream at BaseSeq in Into, from which this machine descends: what was written since is shipped.
	// none: nothing, and everything is shipped.
	Base       string   `json:"base"`
	BaseStream string   `json:"baseStream,omitempty"`
	BaseSeq    uint64   `json:"baseSeq,omitempty"`
	CrashEvery Duration `json:"crashEvery,omitempty"`
	AppEvery   Duration `json:"appEvery,omitempty"`
	PreScript  string   `json:"preScript,omitempty"`
	PostScript string   `json:"postScript,omitempty"`
	PointNow   string   `json:"pointNow,omitempty"`
	PointApp   bool     `json:"pointApp,omitempty"`
}

// ServiceCheck asks the machine's service.
type ServiceCheck struct {
	// URL (http, https) is answered with 200–299, or Address (host:port) accepts a connection; through a forward that is the guest's
	// doing, not the hypervisor's. Exactly one. It is asked from the node that runs the machine.
	URL     string `json:"url,omitempty"`
	Address string `json:"address,omitempty"`
	// Timeout for the service to come up. Default 10m.
	Timeout Duration `json:"timeout,omitempty"`
}

// ProcessServerConfig runs a process server.
type ProcessServerConfig struct {
	Name string `json:"name"`
	// Listen is host:port, default ":9443".
	Listen string `json:"listen"`
	// SpoolDir and SpoolBytes bound the spool. Defaults: in the agent's directory, 10 GiB.
	SpoolDir   string `json:"spoolDir,omitempty"`
	SpoolBytes int64  `json:"spoolBytes,omitempty"`
	// Streams it takes.
	Streams []AcceptedStream `json:"streams,omitempty"`
	// Bandwidth towards the vaults.
	Bandwidth []BandwidthWindow `json:"bandwidth,omitempty"`
	// Retired: it is another node's now, or was deleted. Nothing is left of it here.
	Retired bool `json:"retired,omitempty"`
}

// AcceptedStream is one stream that a process server takes from one node and appends to one vault.
type AcceptedStream struct {
	Machine string      `json:"machine"`
	UID     string      `json:"uid"`
	Stream  string      `json:"stream"`
	Epoch   int64       `json:"epoch"`
	Node    string      `json:"node"` // tenant/name whose certificate the sender shows
	Vault   VaultAccess `json:"vault"`
	// Base of the stream: none, disk, or stream (BaseStream at BaseSeq in the same vault). See ShipConfig.
	Base       string `json:"base"`
	BaseStream string `json:"baseStream,omitempty"`
	BaseSeq    uint64 `json:"baseSeq,omitempty"`
}

// BandwidthWindow limits the rate at some times of the week.
type BandwidthWindow struct {
	// Days: Mon … Sun; none means every day. From and To are "15:04" in the process server's local time; From after To spans midnight.
	Days []string `json:"days,omitempty"`
	From string   `json:"from"`
	To   string   `json:"to"`
	// Kbps is at least 64; 0 stops shipping.
	Kbps int64 `json:"kbps"`
}

// KeeperConfig keeps a vault: its layers, its retention, its garbage.
type KeeperConfig struct {
	Vault VaultAccess `json:"vault"`
	// Streams and the retention of their points.
	Streams []KeptStream `json:"streams,omitempty"`
	// CollectAfter is how long unreferenced objects stay. Default 24h.
	CollectAfter Duration `json:"collectAfter,omitempty"`
	// Retired, as for a process server.
	Retired bool `json:"retired,omitempty"`
}

// KeptStream is one stream with its retention.
type KeptStream struct {
	Stream    string   `json:"stream"`
	Retention Duration `json:"retention"`
	// Only, if set, is the one point that is kept, by its position: the failover was committed.
	Only uint64 `json:"only,omitempty"`
	// Pins are points that stay whatever the retention says: chosen for a failover that is not committed, or in a drill.
	Pins []uint64 `json:"pins,omitempty"`
}

// EngineState is what an engine says of itself in its section's status; written on change, at most once a second.
type EngineState struct {
	// Phase: opening, failed: the config is not taken up. protect: initial, protected, gap, waiting (for a leader's word), readonly, off,
	// yielded, discarded. processserver: serving, retired. site:
	// booting, running, answering, paused (quota), stopping, stopped, discarded, yielded. keeper: keeping, retired.
	Phase string `json:"phase"`
	// Version of the program that the engine runs: one that was adopted may be older than its agent.
	Version string `json:"version,omitempty"`
	// Since when.
	Since time.Time `json:"since,omitzero"`
	// Protection of a machine that runs, at a site too: initial, gap, protected; "" if nothing is shipped.
	Protection string `json:"protection,omitempty"`
	// Done echoes the newest request carried out: PointNow, Restart, or the yield's branch.
	Done string `json:"done,omitempty"`
	// Percent of the initial copy or the closing of a gap; Hydrated of the disks of a site is in local files.
	Percent  float64 `json:"percent,omitempty"`
	Hydrated float64 `json:"hydrated,omitempty"`
	// Instance that a site engine runs.
	Instance string `json:"instance,omitempty"`
	// Stream and the positions: numbered, stored at the recovery site.
	Stream   string `json:"stream,omitempty"`
	Captured uint64 `json:"captured,omitempty"`
	Stored   uint64 `json:"stored,omitempty"`
	// Dirty counts changes (writes and zeroes) that are not stored: Changes.Dirty.
	Dirty uint64 `json:"dirty,omitempty"`
	// Changes are counted apart from positions: Captured = Stored + Dirty whenever they are read.
	Changes ChangeCount `json:"changes,omitzero"`
	// RPO received, now and over the last ten minutes.
	RPO    Duration `json:"rpo,omitempty"`
	RPOp50 Duration `json:"rpoP50,omitempty"`
	RPOp99 Duration `json:"rpoP99,omitempty"`
	// LastPoint is the newest point made here and its position; LastPointAt its time.
	LastPoint    string    `json:"lastPoint,omitempty"`
	LastPointSeq uint64    `json:"lastPointSeq,omitempty"`
	LastPointAt  time.Time `json:"lastPointAt,omitzero"`
	// ResyncBytes were read again to close gaps, for the initial copy or by reprotect; DifferingBytes of them differed from what the far
	// side has, as far as that is known, and were sent.
	ResyncBytes    int64 `json:"resyncBytes,omitempty"`
	DifferingBytes int64 `json:"differingBytes,omitempty"`
	// AnswersAfter is how long the machine's service took to answer, from the section's arrival.
	AnswersAfter Duration `json:"answersAfter,omitempty"`
	// Address where the disks are served.
	Address string `json:"address,omitempty"`
	// Screenshot names a PNG in the instance's directory, made when a drill's service answered or failed to.
	Screenshot string      `json:"screenshot,omitempty"`
	Conditions []Condition `json:"conditions,omitempty"`
}

// ChangeCount counts a stream's changes: where they are numbered, where they are known to be stored, and where they are marked dirty. The
// three are counted apart, so that a change which gets lost between them shows.
type ChangeCount struct {
	Captured uint64 `json:"captured,omitempty"`
	Stored   uint64 `json:"stored,omitempty"`
	Dirty    uint64 `json:"dirty,omitempty"`
}

// Hold tells whether every captured change is stored or dirty.
func (c ChangeCount) Hold() bool { return c.Captured == c.Stored+c.Dirty }
