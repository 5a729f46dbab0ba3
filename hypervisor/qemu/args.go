package qemu

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/hypervisor"
)

// reconnectDelay is how long a guest waits for a lost NBD server before it sees an error.
const reconnectDelay = 60 // s

// files of a machine, in its directory.
const (
	definitionFile = "machine.json"
	pidFile        = "pid"
	lockFile       = "lock"
	qmpSocket      = "qmp.sock"
	agentSocket    = "ga.sock"
	serialFile     = "serial.log"
	varsFile       = "uefi-vars.fd"
)

// ovmfCode is the firmware of UEFI machines, ovmfVars what their variables start from.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS.fd"
)

// arguments of the QEMU that runs m. Its directory is absolute; it is run there, so that sockets have short names.
func arguments(m hypervisor.Machine, dir, accel string) []string {
	a := []string{
		"-name", "guest=" + m.Name, "-uuid", uuid(m),
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "std",
		"-accel", accel, "-cpu", cpu(accel), "-smp", strconv.Itoa(m.CPUs), "-m", strconv.Itoa(m.MemoryMiB),
		"-rtc", "base=utc",
		"-pidfile", filepath.Join(dir, pidFile), "-daemonize",
		"-qmp", "unix:" + qmpSocket + ",server=on,wait=off",
		"-chardev", "file,id=serial0,path=" + serialFile, "-serial", "chardev:serial0",
	}
	if m.Firmware == hypervisor.UEFI {
		a = append(a, "-machine", "q35",
			"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+ovmfCode,
			"-drive", "if=pflash,format=raw,unit=1,file="+comma(filepath.Join(dir, varsFile)))
	} else {
		a = append(a, "-machine", "pc")
	}
	if m.GuestAgent {
		a = append(a, "-device", "virtio-serial-pci",
			"-chardev", "socket,id=agent0,path="+agentSocket+",server=on,wait=off",
			"-device", "virtserialport,chardev=agent0,name=org.qemu.guest_agent.0")
	}
	for i, d := range m.Disks {
		a = append(a, diskArguments(i, d)...)
	}
	for i, n := range m.NICs {
		a = append(a, nicArguments(m.Name, i, n)...)
	}
	return append(a, m.Args...)
}

func cpu(accel string) string {
	if accel == "kvm" {
		return "host"
	}
	return "qemu64"
}

// uuid is the machine's own, or one that its name always gives.
func uuid(m hypervisor.Machine) string {
	if m.UUID != "" {
		return strings.ToLower(m.UUID)
	}
	h := sha256.Sum256([]byte("understudy machine " + m.Name))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// mac is the card's own, or one that the machine's name and the card's place always give, among those that nobody sells.
func mac(machine string, i int, n hypervisor.NIC) string {
	if n.MAC != "" {
		return strings.ToLower(n.MAC)
	}
	h := sha256.Sum256(fmt.Appendf(nil, "understudy nic %s %d", machine, i))
	return net.HardwareAddr{0x52, 0x54, 0x00, h[0], h[1], h[2]}.String()
}

// comma doubles commas, as QEMU wants them in values.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// node is QEMU's name of a disk's bottom.
func node(id string) string { return "disk-" + id }

func diskArguments(i int, d hypervisor.Disk) []string {
	block := map[string]any{"node-name": node(d.ID), "discard": "unmap", "detect-zeroes": "unmap", "read-only": d.ReadOnly}
	if d.NBD != nil {
		block["driver"], block["server"], block["export"] = "nbd", nbdServer(*d.NBD), d.NBD.Export
		block["reconnect-delay"] = reconnectDelay
	} else {
		block["driver"], block["filename"] = "file", d.File
		if strings.HasPrefix(d.File, "/dev/") {
			block["driver"] = "host_device"
		}
		block["cache"] = map[string]any{"direct": d.Cache == hypervisor.Uncached}
	}
	if d.ReadOnly {
		delete(block, "discard")
		delete(block, "detect-zeroes")
	}
	b, err := json.Marshal(block)
	if err != nil { // strings and numbers only
		panic(err)
	}
	writeCache := "on"
	if d.Cache == hypervisor.Writethrough {
		writeCache = "off"
	}
	// A disk that cannot carry out a request stalls the guest; it must never see an error that a little space or time would mend.
	device := fmt.Sprintf("virtio-blk-pci,drive=%s,id=%s,serial=%s,bootindex=%d,write-cache=%s,werror=stop,rerror=stop",
		node(d.ID), d.ID, d.ID, i, writeCache)
	return []string{"-blockdev", string(b), "-device", device}
}

func nbdServer(n hypervisor.NBD) map[string]any {
	if n.Socket != "" {
		return map[string]any{"type": "unix", "path": n.Socket}
	}
	host, port, _ := net.SplitHostPort(n.Address)
	return map[string]any{"type": "inet", "host": host, "port": port}
}

func nicArguments(machine string, i int, n hypervisor.NIC) []string {
	id := "net" + strconv.Itoa(i)
	device := fmt.Sprintf("virtio-net-pci,mac=%s,romfile=", mac(machine, i, n))
	if n.Mode == hypervisor.Unplugged {
		return []string{"-netdev", "hubport,id=" + id + ",hubid=" + strconv.Itoa(1000+i), "-device", device + ",netdev=" + id}
	}
	return []string{"-netdev", netdev(id, n), "-device", device + ",netdev=" + id}
}

func netdev(id string, n hypervisor.NIC) string {
	if n.Mode == hypervisor.Tap {
		return "tap,id=" + id + ",ifname=" + n.Tap + ",script=no,downscript=no"
	}
	s := "user,id=" + id
	if n.Subnet.IsValid() {
		s += fmt.Sprintf(",net=%s,host=%s", n.Subnet, n.Subnet.Addr().Next().Next())
	}
	if n.Mode == hypervisor.Isolated {
		s += ",restrict=on"
	}
	for _, f := range n.Forwards {
		guest := ""
		if f.Guest.IsValid() {
			guest = f.Guest.String()
		}
		s += fmt.Sprintf(",hostfwd=tcp:%s-%s:%d", f.Listen, guest, f.Port)
	}
	return s
}
