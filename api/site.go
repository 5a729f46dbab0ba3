package api

// Site is a place that can be lost as a whole: what stands there. Admission and doctor find out from it whether a
// machine's way back survives the loss of its site.
type Site struct {
	Header
	Spec SiteSpec `json:"spec"`
}

// SiteSpec lists what stands at the site. What stands at no site counts as lost with every site.
type SiteSpec struct {
	// Controllers by name. With the embedded store each of them is also a store node.
	Controllers []string `json:"controllers,omitempty"`
	// StoreNodes are servers of a remote store that stand here, as the controllers' configuration writes them (host:port).
	StoreNodes []string `json:"storeNodes,omitempty"`
	// Nodes (same tenant) by name: hosts of machines, process servers, keepers. A node stands at one site.
	Nodes []string `json:"nodes,omitempty"`
}

// Fabric is a set of hosts on which machines run.
type Fabric struct {
	Header
	Spec FabricSpec `json:"spec"`
}

// FabricType names a hypervisor.
type FabricType string

// The fabric types. vsphere and azure are known by name and refused for now.
const (
	FabricQEMU    FabricType = "qemu"
	FabricVSphere FabricType = "vsphere"
	FabricAzure   FabricType = "azure"
)

// FabricSpec says which hosts.
type FabricSpec struct {
	// Type is qemu, the default: the hosts' agents run QEMU.
	Type FabricType `json:"type,omitempty"`
	// Site (same tenant) where the hosts stand.
	Site string `json:"site"`
	// Nodes (same tenant) that are its hosts; at least one, each of the site.
	Nodes []string `json:"nodes"`
}
