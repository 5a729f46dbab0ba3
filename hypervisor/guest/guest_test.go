package guest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/freeport"
	"github.com/understudy-ha/understudy/hypervisor"
	"github.com/understudy-ha/understudy/hypervisor/guest"
	"github.com/understudy-ha/understudy/hypervisor/guest/workload"
	"github.com/understudy-ha/understudy/hypervisor/qemu"
)

// bootLimit is how long one boot may take: five seconds of processor time, of which a machine under a soak gives a twentieth.
const bootLimit = 5 * time.Minute

type bench struct {
	t    *testing.T
	kit  guest.Kit
	hv   *qemu.Driver
	http netip.AddrPort
}

func newBench(t *testing.T) *bench {
	ctx := context.Background()
	kit, err := guest.Find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hv, err := qemu.Open(qemu.Config{Dir: t.TempDir(), Accelerator: "auto", ProbeKernel: kit.Kernel})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		names, _ := hv.List(ctx)
		for _, name := range names {
			if t.Failed() {
				b, _ := hv.Serial(ctx, name, -3000)
				t.Logf("serial port of %s:\n%s", name, b)
			}
			if err := hv.Remove(ctx, name); err != nil {
				t.Error(err)
			}
		}
	})
	at, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, kit: kit, hv: hv, http: netip.MustParseAddrPort(at)}
}

func (b *bench) machine(disks ...hypervisor.Disk) hypervisor.Machine {
	return hypervisor.Machine{Name: "guest", MemoryMiB: 192, CPUs: 1, GuestAgent: true, Disks: disks, NICs: []hypervisor.NIC{{
		Mode: hypervisor.Isolated, Subnet: netip.MustParsePrefix("10.99.0.0/24"),
		Forwards: []hypervisor.Forward{{Listen: b.http, Port: 80}}}}}
}

// await a marker on the serial port, and answer the line that it is in.
func (b *bench) await(marker string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	line, err := hypervisor.AwaitSerial(ctx, b.hv, "guest", marker)
	if err != nil {
		b.t.Fatal(err)
	}
	return line
}

func (b *bench) state() (s workload.State) {
	b.t.Helper()
	var last error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		r, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + b.http.String() + "/state")
		if last = err; err != nil {
			continue
		}
		last = json.NewDecoder(r.Body).Decode(&s)
		r.Body.Close()
		if last == nil {
			return s
		}
	}
	b.t.Fatal("the guest's service does not answer: ", last)
	return s
}

func (b *bench) start(m hypervisor.Machine) {
	b.t.Helper()
	begun := time.Now()
	if err := b.hv.Start(context.Background(), m); err != nil {
		b.t.Fatal(err)
	}
	b.await("READY")
	b.t.Logf("ready after %.1f s", time.Since(begun).Seconds())
}

func TestGuestBootsFromAFileAndKnowsItsRecords(t *testing.T) {
	ctx, b, dir := context.Background(), newBench(t), t.TempDir()
	root, data := filepath.Join(dir, "root.img"), filepath.Join(dir, "data2.img")
	begun := time.Now()
	err := b.kit.BuildRoot(ctx, guest.Root{Path: root, Size: 128 << 20,
		Settings: workload.Settings{Hostname: "g1", Addresses: []string{"10.99.0.15/24"}, Rate: 50}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("built in %.1f s", time.Since(begun).Seconds())
	if err := guest.BuildData(ctx, data, "data2", 64<<20); err != nil {
		t.Fatal(err)
	}
	m := b.machine(hypervisor.Disk{ID: "root", File: root}, hypervisor.Disk{ID: "data2", File: data})
	b.start(m)
	if s := b.state(); !s.Verified || s.Hostname != "g1" || len(s.Volumes) != 2 {
		t.Fatalf("state %+v", s)
	}
	if n, err := b.hv.Freeze(ctx, "guest"); err != nil || n != 2 {
		t.Fatalf("froze %d: %v", n, err)
	}
	frozen := b.state().Seq
	time.Sleep(500 * time.Millisecond)
	if s := b.state(); s.Seq > frozen+1 {
		t.Errorf("records went from %d to %d while file systems were frozen", frozen, s.Seq)
	}
	if n, err := b.hv.Thaw(ctx, "guest"); err != nil || n != 2 {
		t.Fatalf("thawed %d: %v", n, err)
	}
	if _, err := http.Post("http://"+b.http.String()+"/write?n=20", "", nil); err != nil {
		t.Fatal(err)
	}
	seq := b.state().Seq
	if seq < frozen+20 {
		t.Fatalf("seq %d after 20 more than %d were written", seq, frozen)
	}
	if err := b.hv.Kill(ctx, "guest"); err != nil { // the power goes
		t.Fatal(err)
	}
	b.start(m)
	s := b.state()
	if line := b.await("VERIFY"); !strings.Contains(line, "VERIFY ok") || !s.Verified || s.Found < seq {
		t.Fatalf("after a power cut at record %d: %q, %+v", seq, line, s)
	}
	clean, err := b.hv.Stop(ctx, "guest", bootLimit)
	if err != nil || !clean {
		t.Fatalf("stopped cleanly %v: %v", clean, err)
	}
	if out, err := exec.Command("e2fsck", "-fn", data).CombinedOutput(); err != nil {
		t.Errorf("after a clean stop: %s", out)
	}
	if err := spoil(root, 10); err != nil {
		t.Fatal(err)
	}
	b.start(m)
	if line := b.await("VERIFY"); !strings.Contains(line, "VERIFY bad") {
		t.Errorf("a spoiled record passed: %q", line)
	}
}

// spoil one record on a disk: a byte in the middle of record n.
func spoil(disk string, n uint64) error {
	b, err := os.ReadFile(disk)
	if err != nil {
		return err
	}
	mark := fmt.Sprintf("USGREC1\n%c\x00\x00\x00\x00\x00\x00\x00", rune(n))
	at := strings.Index(string(b), mark)
	if at < 0 {
		return fmt.Errorf("record %d is not on %s", n, disk)
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{^b[at+100]}, int64(at)+100)
	return err
}
