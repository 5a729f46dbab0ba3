package qemu

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/hypervisor"
)

func example() hypervisor.Machine {
	return hypervisor.Machine{
		Name: "web-1", MemoryMiB: 256, CPUs: 2, Firmware: hypervisor.UEFI, GuestAgent: true,
		Disks: []hypervisor.Disk{
			{ID: "root", NBD: &hypervisor.NBD{Socket: "/run/u/nbd.sock", Export: "root"}},
			{ID: "log", NBD: &hypervisor.NBD{Address: "127.0.0.1:10809", Export: "log"}, Cache: hypervisor.Writethrough},
			{ID: "tools", File: "/srv/a,b.img", ReadOnly: true},
		},
		NICs: []hypervisor.NIC{
			{Mode: hypervisor.Isolated, MAC: "52:54:00:00:00:01", Subnet: netip.MustParsePrefix("10.99.0.0/24"), Forwards: []hypervisor.Forward{
				{Listen: netip.MustParseAddrPort("127.0.0.1:18080"), Guest: netip.MustParseAddr("10.99.0.2"), Port: 80}}},
			{Mode: hypervisor.Tap, MAC: "52:54:00:00:00:02", Tap: "tap0"},
			{Mode: hypervisor.Unplugged, MAC: "52:54:00:00:00:03"},
		},
	}
}

func TestArgumentsSayWhatWasMeasured(t *testing.T) {
	got := strings.Join(arguments(example(), "/var/lib/u/web-1", "tcg"), " ")
	for _, want := range []string{
		"-accel tcg -cpu qemu64", "-machine q35", "if=pflash,format=raw,unit=1,file=/var/lib/u/web-1/uefi-vars.fd",
		`"reconnect-delay":60`, `"discard":"unmap"`, `"detect-zeroes":"unmap"`, `"path":"/run/u/nbd.sock"`, `"host":"127.0.0.1","port":"10809"`,
		"drive=disk-log,id=log,serial=log,bootindex=1,write-cache=off,werror=stop",
		"drive=disk-root,id=root,serial=root,bootindex=0,write-cache=on,werror=stop",
		"user,id=net0,net=10.99.0.0/24,host=10.99.0.2,restrict=on,hostfwd=tcp:127.0.0.1:18080-10.99.0.2:80",
		"tap,id=net1,ifname=tap0,script=no,downscript=no", "hubport,id=net2", "name=org.qemu.guest_agent.0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestWhatIsStartedIsReadAgain(t *testing.T) {
	m := example()
	got := readArguments(arguments(m, "/var/lib/u/web-1", "tcg"))
	m.UUID = uuid(m)
	m.NICs[0].Forwards = nil // the command line of a stranger's machine tells enough without
	m.Disks[1].Cache = ""    // nor is the cache read
	if !reflect.DeepEqual(got, m) {
		t.Errorf("read\n%+v\nwant\n%+v", got, m)
	}
}

func TestStrangersAreRead(t *testing.T) {
	line := "-name guest=db,debug-threads=on -uuid 5f3d4f1e-0000-4000-8000-000000000001 -m size=2G -smp 4,sockets=1 -enable-kvm " +
		"-drive if=pflash,file=/x/OVMF_CODE.fd -drive file=/srv/db.qcow2,format=qcow2,if=virtio,id=d0 -drive file=nbd:unix:/run/n.sock:exportname=e1,if=virtio " +
		"-blockdev driver=raw,node-name=d2,read-only=on,file.driver=file,file.filename=/srv/c.img -netdev tap,id=n,ifname=vnet3 -device virtio-net-pci,netdev=n,mac=52:54:00:aa:bb:cc -S"
	m := readArguments(strings.Split(line, " "))
	want := hypervisor.Machine{Name: "db", UUID: "5f3d4f1e-0000-4000-8000-000000000001", MemoryMiB: 2048, CPUs: 4, Firmware: hypervisor.UEFI,
		Disks: []hypervisor.Disk{{ID: "d0", File: "/srv/db.qcow2"}, {ID: "disk1", NBD: &hypervisor.NBD{Socket: "/run/n.sock", Export: "e1"}},
			{ID: "d2", File: "/srv/c.img", ReadOnly: true}},
		NICs: []hypervisor.NIC{{MAC: "52:54:00:aa:bb:cc", Mode: hypervisor.Tap, Tap: "vnet3"}}}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("read\n%+v\nwant\n%+v", m, want)
	}
}

func FuzzReadArguments(f *testing.F) {
	f.Add(strings.Join(arguments(example(), "/d", "kvm"), "\x00"))
	f.Add("-drive\x00file=nbd:,,=\x00-blockdev\x00{\"file\":{\"file\":{}}}\x00-device\x00mac=1,netdev=")
	f.Fuzz(func(t *testing.T, line string) { readArguments(strings.Split(line, "\x00")) })
}

func TestStateIsInterpreted(t *testing.T) {
	full := []blockInfo{{Qdev: "/machine/peripheral/root/virtio-backend", IOStatus: "nospace"}, {Qdev: "log", IOStatus: "ok"}}
	for run, want := range map[string]hypervisor.State{"running": hypervisor.Running, "paused": hypervisor.Paused,
		"io-error": hypervisor.Stalled, "guest-panicked": hypervisor.Crashed, "something-new": hypervisor.Crashed} {
		if got, _ := interpret(run, full); got != want {
			t.Errorf("%s: %s, want %s", run, got, want)
		}
	}
	if _, why := interpret("io-error", full); why != "disk root is full" {
		t.Errorf("reason %q", why)
	}
}
