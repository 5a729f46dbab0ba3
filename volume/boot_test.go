package volume_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/hypervisor"
	"github.com/understudy-ha/understudy/hypervisor/guest"
	"github.com/understudy-ha/understudy/hypervisor/guest/workload"
	"github.com/understudy-ha/understudy/hypervisor/qemu"
	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/volume"
)

// fileBase is a raw image as a base.
type fileBase struct{ *nbd.File }

func (b fileBase) Extents(ctx context.Context, off, n int64, yield func(off, n int64, zero bool) bool) error {
	return b.File.Extents(ctx, off, n, func(off, n int64, e nbd.Extent) bool { return yield(off, n, e&nbd.Zeros != 0) })
}

// TestGuestBootsFromAVolume: a guest boots at once from a volume that holds nothing yet, writes, is hydrated while it runs, and loses its
// power; then the file alone boots and holds every record.
func TestGuestBootsFromAVolume(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute) // 10 s of processor time; a loaded machine gives a part of it
	defer cancel()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kit, err := guest.Find(ctx)
	must(err)
	past, disk, socket := filepath.Join(dir, "past.img"), filepath.Join(dir, "disk.img"), filepath.Join(dir, "nbd.sock")
	must(kit.BuildRoot(ctx, guest.Root{Path: past, Size: 128 << 20, Settings: workload.Settings{Hostname: "g", Rate: 20}}))
	file, err := nbd.OpenFile(past, nbd.FileOptions{ReadOnly: true})
	must(err)
	defer file.Close()
	v, err := volume.Open(volume.Config{Path: disk, Base: fileBase{file}})
	must(err)
	srv := nbd.NewServer(nbd.Config{})
	must(srv.Add(nbd.Export{Name: "root", Backend: v, Blocking: true}))
	l, err := nbd.Listen("unix", socket)
	must(err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, l) }()

	hv, err := qemu.Open(qemu.Config{Dir: filepath.Join(dir, "vm"), ProbeKernel: kit.Kernel})
	must(err)
	defer func() {
		if b, err := hv.Serial(context.Background(), "g", -2000); err == nil && t.Failed() {
			t.Logf("serial port:\n%s", b)
		}
		must(hv.Remove(context.Background(), "g"))
	}()
	m := hypervisor.Machine{Name: "g", MemoryMiB: 192, CPUs: 1, GuestAgent: true, Disks: []hypervisor.Disk{{ID: "root", NBD: &hypervisor.NBD{Socket: socket, Export: "root"}}}}
	must(hv.Start(ctx, m))
	_, err = hypervisor.AwaitSerial(ctx, hv, "g", "READY")
	must(err)
	t.Logf("booted: %+v", v.Status())
	if s := v.Status(); s.Complete || s.FetchedBytes == 0 || s.WrittenBytes == 0 {
		t.Errorf("%+v", s)
	}
	must(v.Hydrate(ctx, 0, nil))
	if s := v.Status(); !s.Complete {
		t.Errorf("hydrated: %+v", s)
	}
	_, err = hv.Freeze(ctx, "g") // everything that was acknowledged is on the disk
	must(err)
	must(hv.Kill(ctx, "g"))
	must(srv.Close())
	<-served
	must(v.Close())
	must(os.Remove(past))

	m.Disks[0] = hypervisor.Disk{ID: "root", File: disk} // the pivot
	must(hv.Start(ctx, m))
	line, err := hypervisor.AwaitSerial(ctx, hv, "g", "VERIFY")
	must(err)
	if !strings.Contains(line, "VERIFY ok") || strings.HasSuffix(line, "seq=0") {
		t.Errorf("the file alone: %q", line)
	}
	t.Log(line)
}
