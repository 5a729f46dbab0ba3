package guest_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/hypervisor"
	"github.com/understudy-ha/understudy/hypervisor/guest"
	"github.com/understudy-ha/understudy/hypervisor/guest/workload"
	"github.com/understudy-ha/understudy/nbd"
)

// fullDisk refuses writes when it is told that it is full.
type fullDisk struct {
	nbd.Backend
	full atomic.Bool
}

func (d *fullDisk) WriteAt(ctx context.Context, p []byte, off int64, fua bool) error {
	if d.full.Load() {
		return syscall.ENOSPC
	}
	return d.Backend.WriteAt(ctx, p, off, fua)
}

// serve a disk on a socket until the test ends or stop is called.
func serve(t *testing.T, socket string, disk nbd.Backend) (stop func()) {
	t.Helper()
	srv := nbd.NewServer(nbd.Config{})
	if err := srv.Add(nbd.Export{Name: "root", Backend: disk}); err != nil {
		t.Fatal(err)
	}
	l, err := nbd.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(context.Background(), l)
	}()
	stop = func() {
		srv.Close()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// TestGuestOverNBD boots from an export, with an address by DHCP. The server goes away and comes back, the disk is full for a while:
// the guest waits, and no record is wrong.
func TestGuestOverNBD(t *testing.T) {
	for _, cache := range []hypervisor.Cache{hypervisor.Writeback, hypervisor.Writethrough} {
		t.Run(string(cache), func(t *testing.T) { overNBD(t, cache) })
	}
}

func overNBD(t *testing.T, cache hypervisor.Cache) {
	ctx, b, dir := context.Background(), newBench(t), t.TempDir()
	root, socket := filepath.Join(dir, "root.img"), filepath.Join(dir, "nbd.sock")
	err := b.kit.BuildRoot(ctx, guest.Root{Path: root, Size: 128 << 20, Settings: workload.Settings{Hostname: "g2", Addresses: []string{"dhcp"}, Rate: 50}})
	if err != nil {
		t.Fatal(err)
	}
	file, err := nbd.OpenFile(root, nbd.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	disk := &fullDisk{Backend: file}
	stop := serve(t, socket, disk)
	m := b.machine(hypervisor.Disk{ID: "root", NBD: &hypervisor.NBD{Socket: socket, Export: "root"}, Cache: cache})
	b.start(m)
	seq := b.state().Seq

	stop()
	time.Sleep(time.Second)
	serve(t, socket, disk)
	b.until("records go on after the server came back", func() bool { return b.state().Seq > seq+10 })

	disk.full.Store(true)
	b.until("the guest is stalled by a full disk", func() bool {
		s, err := b.hv.Status(ctx, "guest")
		return err == nil && s.State == hypervisor.Stalled && strings.Contains(s.Reason, "disk root is full")
	})
	disk.full.Store(false)
	if err := b.hv.Resume(ctx, "guest"); err != nil {
		t.Fatal(err)
	}
	seq = b.state().Seq
	b.until("records go on after the disk had space", func() bool { return b.state().Seq > seq+10 })
	seq = b.state().Seq
	if err := b.hv.Kill(ctx, "guest"); err != nil {
		t.Fatal(err)
	}
	b.start(m)
	if s := b.state(); !s.Verified || s.Found < seq {
		t.Errorf("after a power cut at record %d: %+v", seq, s)
	}
}

// until a condition holds, for as long as a boot may take.
func (b *bench) until(what string, holds func() bool) {
	b.t.Helper()
	for end := time.Now().Add(bootLimit); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatal("never: ", what)
		}
	}
}
