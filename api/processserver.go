package api

// ProcessServer stands at the site that machines are protected from (or come home from): it takes what their nodes
// ship, spools, compresses and encrypts it, and appends it to vaults.
type ProcessServer struct {
	Header
	Spec ProcessServerSpec `json:"spec"`
}

// ProcessServerRole is what a process server is used for.
type ProcessServerRole string

// The roles of process servers.
const (
	RoleProtection   ProcessServerRole = "Protection"   // takes streams to the recovery site
	RoleReprotection ProcessServerRole = "Reprotection" // takes streams on the way back
)

// ProcessServerSpec says where it runs and how much it may take.
type ProcessServerSpec struct {
	// Node (same tenant) whose agent runs it.
	Node string `json:"node"`
	// Site (same tenant) of the node; the one whose machines it serves.
	Site string `json:"site"`
	// Roles: Protection, Reprotection or both, the default.
	Roles []ProcessServerRole `json:"roles,omitempty"`
	// Address (host:port) that senders dial.
	Address string `json:"address"`
	// Listen is host:port where it listens. Default ":9443".
	Listen string `json:"listen,omitempty"`
	// Temporary tells that it is to be taken away again: set up at the recovery site for a reprotect, say. Machines that use one
	// are shown as such.
	Temporary bool `json:"temporary,omitempty"`
	// Spool bounds what waits on its disk.
	Spool Spool `json:"spool,omitzero"`
	// Bandwidth towards the vaults, by time of the week; the first window that matches counts. Default: no bound.
	Bandwidth []BandwidthWindow `json:"bandwidth,omitempty"`
}

// Spool is where a process server keeps what no vault has yet.
type Spool struct {
	// Dir is an absolute path. Default: in the agent's directory.
	Dir string `json:"dir,omitempty"`
	// MaxBytes is 64 MiB to 16 TiB. Default 10 GiB. When it is full, senders wait, then remember blocks as dirty.
	MaxBytes int64 `json:"maxBytes,omitempty"`
}
