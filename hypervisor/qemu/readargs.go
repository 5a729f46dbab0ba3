package qemu

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/hypervisor"
)

// readArguments finds the machine in a QEMU's command line, whoever wrote it. What it does not understand it leaves out: the
// result need not be valid.
func readArguments(args []string) hypervisor.Machine {
	r := argReader{m: hypervisor.Machine{MemoryMiB: 128, CPUs: 1, Firmware: hypervisor.BIOS}, netdevs: map[string]options{}}
	for i := 0; i+1 < len(args); i++ {
		value := args[i+1]
		switch strings.TrimPrefix(args[i], "-") {
		case "-name", "name":
			o := parseOptions(value, "guest")
			r.m.Name = o["guest"]
		case "uuid":
			r.m.UUID = value
		case "m":
			r.memory(parseOptions(value, "size")["size"])
		case "smp":
			r.m.CPUs, _ = strconv.Atoi(parseOptions(value, "cpus")["cpus"])
		case "drive":
			r.drive(parseOptions(value, ""))
		case "blockdev":
			r.blockdev(value)
		case "netdev":
			o := parseOptions(value, "type")
			r.netdevs[o["id"]] = o
		case "device":
			r.device(parseOptions(value, "driver"))
		case "bios":
			if strings.Contains(value, "OVMF") {
				r.m.Firmware = hypervisor.UEFI
			}
		default:
			continue
		}
		i++
	}
	return r.m
}

type argReader struct {
	m       hypervisor.Machine
	netdevs map[string]options
}

// options of one argument: key=value separated by commas, where a value's own commas are doubled.
type options map[string]string

// parseOptions of an argument whose first value may stand without its key.
func parseOptions(s, first string) options {
	o := options{}
	for i, part := range splitOptions(s) {
		key, value, ok := strings.Cut(part, "=")
		switch {
		case ok:
			o[key] = value
		case i == 0 && first != "":
			o[first] = part
		default:
			o[part] = "on"
		}
	}
	return o
}

func splitOptions(s string) []string {
	var out []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != ',':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == ',':
			b.WriteByte(',')
			i++
		default:
			out = append(out, b.String())
			b.Reset()
		}
	}
	return append(out, b.String())
}

// memory in MiB, or with a unit.
func (r *argReader) memory(s string) {
	unit := 1.0
	switch {
	case s == "":
		return
	case strings.HasSuffix(s, "G"), strings.HasSuffix(s, "g"):
		unit = 1 << 10
	case strings.HasSuffix(s, "T"), strings.HasSuffix(s, "t"):
		unit = 1 << 20
	case strings.HasSuffix(s, "K"), strings.HasSuffix(s, "k"):
		unit = 1.0 / (1 << 10)
	}
	if n, err := strconv.ParseFloat(strings.TrimRight(s, "KkMmGgTt"), 64); err == nil && n > 0 && n < 1<<30 {
		r.m.MemoryMiB = int(n * unit)
	}
}

func (r *argReader) drive(o options) {
	switch {
	case o["if"] == "pflash":
		r.m.Firmware = hypervisor.UEFI
	case o["media"] == "cdrom" || o["file"] == "":
	default:
		r.add(o["id"], diskAt(o["file"]), o["readonly"] == "on")
	}
}

func (r *argReader) blockdev(value string) {
	if !strings.HasPrefix(value, "{") {
		r.block(parseOptions(value, ""))
		return
	}
	var tree map[string]any
	if json.Unmarshal([]byte(value), &tree) == nil {
		o := options{}
		flatten(o, "", tree)
		r.block(o)
	}
}

// flatten a JSON object to the keys that the same object has in the other notation.
func flatten(o options, prefix string, tree map[string]any) {
	for k, v := range tree {
		switch v := v.(type) {
		case map[string]any:
			flatten(o, prefix+k+".", v)
		case bool:
			o[prefix+k] = map[bool]string{true: "on", false: "off"}[v]
		default:
			o[prefix+k] = fmt.Sprint(v)
		}
	}
}

// block adds the bottom of a chain of block devices: the one that names a file or a server.
func (r *argReader) block(o options) {
	prefix := ""
	for o[prefix+"filename"] == "" && o[prefix+"server.type"] == "" {
		if prefix += "file."; len(prefix) > 5*5 {
			return
		}
	}
	d := hypervisor.Disk{File: o[prefix+"filename"]}
	switch o[prefix+"server.type"] {
	case "unix":
		d = hypervisor.Disk{NBD: &hypervisor.NBD{Socket: o[prefix+"server.path"], Export: o[prefix+"export"]}}
	case "inet":
		d = hypervisor.Disk{NBD: &hypervisor.NBD{Address: o[prefix+"server.host"] + ":" + o[prefix+"server.port"], Export: o[prefix+"export"]}}
	}
	r.add(strings.TrimPrefix(o["node-name"], "disk-"), d, o["read-only"] == "on")
}

func (r *argReader) add(id string, d hypervisor.Disk, readOnly bool) {
	if strings.Contains(d.File, "OVMF") {
		r.m.Firmware = hypervisor.UEFI
		return
	}
	if d.ID, d.ReadOnly = id, readOnly; id == "" {
		d.ID = "disk" + strconv.Itoa(len(r.m.Disks))
	}
	r.m.Disks = append(r.m.Disks, d)
}

// diskAt reads a file's name, or an NBD address in QEMU's short form.
func diskAt(s string) hypervisor.Disk {
	rest, ok := strings.CutPrefix(s, "nbd:")
	if !ok {
		return hypervisor.Disk{File: s}
	}
	address, export, _ := strings.Cut(rest, ":exportname=")
	if socket, ok := strings.CutPrefix(address, "unix:"); ok {
		return hypervisor.Disk{NBD: &hypervisor.NBD{Socket: socket, Export: export}}
	}
	return hypervisor.Disk{NBD: &hypervisor.NBD{Address: address, Export: export}}
}

// device notes cards and the guest agent's port; disks were noted from what they stand on.
func (r *argReader) device(o options) {
	if o["name"] == "org.qemu.guest_agent.0" {
		r.m.GuestAgent = true
	}
	if o["mac"] == "" {
		return
	}
	n := hypervisor.NIC{MAC: o["mac"], Mode: hypervisor.Unplugged}
	switch back := r.netdevs[o["netdev"]]; back["type"] {
	case "tap":
		n.Mode, n.Tap = hypervisor.Tap, back["ifname"]
	case "user":
		n.Mode = hypervisor.User
		if back["restrict"] == "on" {
			n.Mode = hypervisor.Isolated
		}
		n.Subnet, _ = netip.ParsePrefix(back["net"])
	}
	r.m.NICs = append(r.m.NICs, n)
}
