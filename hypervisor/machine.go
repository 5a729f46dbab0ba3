package hypervisor

import (
	"net/netip"
	"slices"
	"strings"
)

// Firmware that boots a machine.
type Firmware string

const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Cache says when a guest's write is answered.
type Cache string

const (
	// Writeback answers when the disk has taken the write; it is durable after the guest's next flush.
	Writeback Cache = "writeback"
	// Writethrough makes every write durable before it is answered: a disk sees it as FUA.
	Writethrough Cache = "writethrough"
	// Uncached is Writeback that bypasses the host's page cache. For files only.
	Uncached Cache = "none"
)

// Machine is the whole definition of a virtual machine.
type Machine struct {
	// Name is 1 to 63 letters, digits, '.', '_' and '-', starting with a letter or digit; unique in a hypervisor.
	Name string `json:"name"`
	// UUID as the guest sees it; "" for one made from the name.
	UUID string `json:"uuid,omitempty"`
	// MemoryMiB is 32 to 16777216.
	MemoryMiB int `json:"memoryMiB"`
	// CPUs is 1 to 256.
	CPUs int `json:"cpus"`
	// Firmware is bios or uefi; "" for bios.
	Firmware Firmware `json:"firmware,omitempty"`
	// Disks in order; the first is booted.
	Disks []Disk `json:"disks"`
	NICs  []NIC  `json:"nics,omitempty"`
	// NetNS is the path of the network namespace to run in; "" for the caller's.
	NetNS string `json:"netns,omitempty"`
	// GuestAgent connects org.qemu.guest_agent.0.
	GuestAgent bool `json:"guestAgent,omitempty"`
	// Args are given to the hypervisor's program as they are, after all others: for tests that put something between the guest and
	// its disks.
	Args []string `json:"args,omitempty"`
}

// Disk of a machine: exactly one of File and NBD is set.
type Disk struct {
	// ID is unique in the machine, 1 to 20 letters, digits, '_' and '-', starting with a letter: the disk's serial number to the guest.
	ID string `json:"id"`
	// File is a raw image or a block device; an absolute path.
	File string `json:"file,omitempty"`
	NBD  *NBD   `json:"nbd,omitempty"`
	// ReadOnly refuses the guest's writes.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Cache is "" for Writeback.
	Cache Cache `json:"cache,omitempty"`
}

// NBD is an export of an NBD server: exactly one of Socket and Address is set. When the server goes away, the guest waits up to a
// minute for it to come back before it sees an error.
type NBD struct {
	// Socket is an absolute path, at most 107 bytes.
	Socket string `json:"socket,omitempty"`
	// Address is host:port.
	Address string `json:"address,omitempty"`
	Export  string `json:"export"`
}

// Mode of a NIC.
type Mode string

const (
	// Unplugged is a card without a cable.
	Unplugged Mode = "none"
	// Isolated is a network of the machine's own, from which nothing can be reached: how drills run. The host reaches the guest
	// through Forwards.
	Isolated Mode = "isolated"
	// User is Isolated with a way out through the host's own connections.
	User Mode = "user"
	// Tap joins the host's network.
	Tap Mode = "tap"
)

// NIC of a machine.
type NIC struct {
	// MAC is six pairs of hex digits; "" for one made from the machine's name and the card's place.
	MAC  string `json:"mac,omitempty"`
	Mode Mode   `json:"mode"`
	// Tap names a tap interface of the network namespace; it is made if it does not exist.
	Tap string `json:"tap,omitempty"`
	// Subnet of Isolated and User; its second address is the host's, DHCP gives the 15th to the guest. "" for 10.0.2.0/24.
	Subnet netip.Prefix `json:"subnet,omitzero"`
	// Forwards of Isolated and User.
	Forwards []Forward `json:"forwards,omitempty"`
}

// Forward leads connections to Listen on the host to a port of the guest.
type Forward struct {
	Listen netip.AddrPort `json:"listen"`
	// Guest is the guest's address; invalid for the one that DHCP gives.
	Guest netip.Addr `json:"guest,omitzero"`
	Port  uint16     `json:"port"`
}

// Equal tells whether two definitions make the same machine.
func (m Machine) Equal(o Machine) bool { return m.Diff(o) == "" }

// Diff names what differs between two definitions; "" if nothing does.
func (m Machine) Diff(o Machine) string {
	var out []string
	add := func(field string, same bool) {
		if !same {
			out = append(out, field)
		}
	}
	add("name", m.Name == o.Name)
	add("uuid", m.UUID == o.UUID)
	add("memoryMiB", m.MemoryMiB == o.MemoryMiB)
	add("cpus", m.CPUs == o.CPUs)
	add("firmware", m.firmware() == o.firmware())
	add("disks", slices.EqualFunc(m.Disks, o.Disks, Disk.equal))
	add("nics", slices.EqualFunc(m.NICs, o.NICs, NIC.equal))
	add("netns", m.NetNS == o.NetNS)
	add("guestAgent", m.GuestAgent == o.GuestAgent)
	add("args", slices.Equal(m.Args, o.Args))
	return strings.Join(out, ", ")
}

func (m Machine) firmware() Firmware {
	if m.Firmware == "" {
		return BIOS
	}
	return m.Firmware
}

func (d Disk) equal(o Disk) bool {
	same := d.NBD == nil && o.NBD == nil || d.NBD != nil && o.NBD != nil && *d.NBD == *o.NBD
	d.NBD, o.NBD = nil, nil
	return same && d == o
}

func (n NIC) equal(o NIC) bool {
	return strings.EqualFold(n.MAC, o.MAC) && n.Mode == o.Mode && n.Tap == o.Tap && n.Subnet == o.Subnet && slices.Equal(n.Forwards, o.Forwards)
}
