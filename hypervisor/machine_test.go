package hypervisor

import (
	"net/netip"
	"strings"
	"testing"
)

func valid() Machine {
	return Machine{Name: "m", MemoryMiB: 64, CPUs: 1, Disks: []Disk{{ID: "root", File: "/a"}}, NICs: []NIC{{Mode: Isolated}}}
}

func TestRefusalsNameTheField(t *testing.T) {
	for field, spoil := range map[string]func(*Machine){
		"name":                       func(m *Machine) { m.Name = "../up" },
		"uuid":                       func(m *Machine) { m.UUID = "7" },
		"memoryMiB":                  func(m *Machine) { m.MemoryMiB = 1 },
		"cpus":                       func(m *Machine) { m.CPUs = 0 },
		"firmware":                   func(m *Machine) { m.Firmware = "coreboot" },
		"netns":                      func(m *Machine) { m.NetNS = "blue" },
		"disks[0].id":                func(m *Machine) { m.Disks[0].ID = "a,b" },
		"disks[0].file":              func(m *Machine) { m.Disks[0].NBD = &NBD{Socket: "/s"} },
		"disks[0].nbd.socket":        func(m *Machine) { m.Disks[0] = Disk{ID: "a", NBD: &NBD{Socket: "s"}} },
		"disks[0].nbd.address":       func(m *Machine) { m.Disks[0] = Disk{ID: "a", NBD: &NBD{Address: "host"}} },
		"disks[0].cache":             func(m *Machine) { m.Disks[0].Cache = "unsafe" },
		"disks[1].id":                func(m *Machine) { m.Disks = append(m.Disks, m.Disks[0]) },
		"nics[0].mode":               func(m *Machine) { m.NICs[0].Mode = "bridge" },
		"nics[0].mac":                func(m *Machine) { m.NICs[0].MAC = "01:00:00:00:00:01" },
		"nics[0].tap":                func(m *Machine) { m.NICs[0] = NIC{Mode: Tap, Tap: "a,b"} },
		"nics[0].subnet":             func(m *Machine) { m.NICs[0].Subnet = netip.MustParsePrefix("10.0.0.1/24") },
		"nics[0].forwards[0].port":   func(m *Machine) { m.NICs[0].Forwards = []Forward{{Listen: netip.MustParseAddrPort("127.0.0.1:1")}} },
		"nics[0].forwards[0].listen": func(m *Machine) { m.NICs[0].Forwards = []Forward{{Port: 80}} },
	} {
		m := valid()
		spoil(&m)
		if err := m.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+" ") {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := valid().Validate(); err != nil {
		t.Error(err)
	}
}

func TestDiffNamesWhatDiffers(t *testing.T) {
	a, b := valid(), valid()
	b.Firmware = BIOS // the default
	if d := a.Diff(b); d != "" {
		t.Errorf("equal machines differ in %s", d)
	}
	b.MemoryMiB, b.Disks[0].ReadOnly, b.NICs = 128, true, nil
	if d := a.Diff(b); d != "memoryMiB, disks, nics" {
		t.Errorf("diff %q", d)
	}
}
