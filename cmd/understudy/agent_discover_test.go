package main

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/hypervisor"
)

// TestDiscoveredIsAProtectedMachine: what is printed of a machine that somebody else runs can be applied once the words in capitals are
// replaced, and is refused by them before.
func TestDiscoveredIsAProtectedMachine(t *testing.T) {
	var out bytes.Buffer
	c := &console{out: &out}
	found := []hypervisor.Found{{Machine: hypervisor.Machine{Name: "Web", CPUs: 2, MemoryMiB: 1024, Firmware: hypervisor.UEFI,
		Disks: []hypervisor.Disk{{ID: "vda", File: "/srv/web.raw"}, {ID: "vdb", File: "/dev/vg/web"}},
		NICs: []hypervisor.NIC{{Mode: hypervisor.Tap, Tap: "web0", MAC: "52:54:00:00:00:01"},
			{Mode: hypervisor.User, Forwards: []hypervisor.Forward{{Listen: netip.MustParseAddrPort("127.0.0.1:8080"), Port: 80}}}}}},
		{Machine: hypervisor.Machine{Name: "iscsi", Disks: []hypervisor.Disk{{ID: "vda", NBD: &hypervisor.NBD{Address: "10.0.0.1:10809", Export: "x"}}}}}}
	if err := c.printDiscovered(found, "Web"); err != nil {
		t.Fatal(err)
	}
	_, err := parseManifest("web.yaml", out.Bytes())
	chosen := []string{"OTHER-SITE", "OTHER-FABRIC", "OTHER-NODE", "SITE", "FABRIC", "POLICY", "PROCESS-SERVER", "VAULT"}
	text := out.String()
	for _, word := range chosen {
		if err == nil || !strings.Contains(err.Error(), `"`+word+`"`) {
			t.Errorf("as it is printed: %v; want %s refused", err, word)
		}
		text = strings.ReplaceAll(text, word, strings.ToLower(word))
	}
	here, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	docs, err := parseManifest("web.yaml", []byte(strings.ReplaceAll(text, "node: "+here, "node: p1")))
	if err != nil {
		t.Fatalf("completed: %v\n%s", err, text)
	}
	if m := docs[0].object.(*api.ProtectedMachine); m.Spec.VM.Firmware != "uefi" || len(m.Spec.Disks) != 2 || m.Spec.VM.NICs[1].Forwards[0].Port != 80 {
		t.Errorf("%+v", m.Spec)
	}
	for name, want := range map[string]string{"iscsi": "want raw files or block devices", "nope": `"nope": want one that runs here: Web, iscsi`} {
		if err := c.printDiscovered(found, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
