package hypervisor

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
)

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	diskForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,19}$`)
	uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	linkForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)
)

// ValidName tells whether a machine may have that name.
func ValidName(name string) bool { return nameForm.MatchString(name) }

// Validate names the first field that is wrong, its value, and what would be right.
func (m Machine) Validate() error {
	switch {
	case !ValidName(m.Name):
		return fmt.Errorf("name %q: want 1 to 63 letters, digits, '.', '_' and '-', the first a letter or digit", m.Name)
	case m.UUID != "" && !uuidForm.MatchString(m.UUID):
		return fmt.Errorf("uuid %q: want the form 00000000-0000-0000-0000-000000000000", m.UUID)
	case m.MemoryMiB < 32 || m.MemoryMiB > 16<<20:
		return fmt.Errorf("memoryMiB %d: want 32 to 16777216", m.MemoryMiB)
	case m.CPUs < 1 || m.CPUs > 256:
		return fmt.Errorf("cpus %d: want 1 to 256", m.CPUs)
	case m.Firmware != "" && m.Firmware != BIOS && m.Firmware != UEFI:
		return fmt.Errorf("firmware %q: want bios or uefi", m.Firmware)
	case m.NetNS != "" && !filepath.IsAbs(m.NetNS):
		return fmt.Errorf("netns %q: want an absolute path, as /run/netns/NAME", m.NetNS)
	}
	seen := map[string]bool{}
	for i, d := range m.Disks {
		if err := d.validate(); err != nil {
			return fmt.Errorf("disks[%d].%w", i, err)
		}
		if seen[d.ID] {
			return fmt.Errorf("disks[%d].id %q: another disk has it; want one of its own", i, d.ID)
		}
		seen[d.ID] = true
	}
	for i, n := range m.NICs {
		if err := n.validate(); err != nil {
			return fmt.Errorf("nics[%d].%w", i, err)
		}
	}
	return nil
}

func (d Disk) validate() error {
	switch {
	case !diskForm.MatchString(d.ID):
		return fmt.Errorf("id %q: want 1 to 20 letters, digits, '_' and '-', the first a letter", d.ID)
	case (d.File == "") == (d.NBD == nil):
		return fmt.Errorf("file %q: want exactly one of file and nbd", d.File)
	case d.File != "" && !filepath.IsAbs(d.File):
		return fmt.Errorf("file %q: want an absolute path", d.File)
	case !slices.Contains([]Cache{"", Writeback, Writethrough, Uncached}, d.Cache):
		return fmt.Errorf("cache %q: want writeback, writethrough or none", d.Cache)
	case d.NBD == nil:
		return nil
	case d.Cache == Uncached:
		return fmt.Errorf("cache %q: an NBD disk has writeback or writethrough", d.Cache)
	case (d.NBD.Socket == "") == (d.NBD.Address == ""):
		return fmt.Errorf("nbd.socket %q: want exactly one of socket and address", d.NBD.Socket)
	case d.NBD.Socket != "" && (!filepath.IsAbs(d.NBD.Socket) || len(d.NBD.Socket) > 107):
		return fmt.Errorf("nbd.socket %q: want an absolute path of at most 107 bytes", d.NBD.Socket)
	}
	if d.NBD.Address != "" {
		if _, _, err := net.SplitHostPort(d.NBD.Address); err != nil {
			return fmt.Errorf("nbd.address %q: want host:port", d.NBD.Address)
		}
	}
	return nil
}

func (n NIC) validate() error {
	if n.MAC != "" {
		if a, err := net.ParseMAC(n.MAC); err != nil || len(a) != 6 || a[0]&1 != 0 {
			return fmt.Errorf("mac %q: want six pairs of hex digits, the first one even", n.MAC)
		}
	}
	own := n.Mode == Isolated || n.Mode == User
	switch {
	case !own && n.Mode != Tap && n.Mode != Unplugged:
		return fmt.Errorf("mode %q: want none, isolated, user or tap", n.Mode)
	case n.Mode == Tap && !linkForm.MatchString(n.Tap):
		return fmt.Errorf("tap %q: want the name of a tap interface", n.Tap)
	case n.Mode != Tap && n.Tap != "":
		return fmt.Errorf("tap %q: only a card of mode tap has it", n.Tap)
	case !own && (len(n.Forwards) > 0 || n.Subnet.IsValid()):
		return fmt.Errorf("mode %q: only isolated and user have forwards and a subnet", n.Mode)
	case n.Subnet.IsValid() && (!n.Subnet.Addr().Is4() || n.Subnet.Bits() > 27 || n.Subnet != n.Subnet.Masked()):
		return fmt.Errorf("subnet %v: want an IPv4 prefix of at most 27 bits, as 10.99.0.0/24", n.Subnet)
	}
	for i, f := range n.Forwards {
		switch {
		case !f.Listen.IsValid() || !f.Listen.Addr().Is4() || f.Listen.Port() == 0:
			return fmt.Errorf("forwards[%d].listen %v: want an IPv4 address and port, as 127.0.0.1:18080", i, f.Listen)
		case f.Port == 0:
			return fmt.Errorf("forwards[%d].port 0: want 1 to 65535", i)
		case f.Guest.IsValid() && !f.Guest.Is4():
			return fmt.Errorf("forwards[%d].guest %v: want an IPv4 address", i, f.Guest)
		}
	}
	return nil
}
