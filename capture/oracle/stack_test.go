package oracle

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

// stack is a captured disk behind an NBD server, and the records of its stream.
type stack struct {
	dir, socket string
	size        int64
	m           *disk.Machine
	made        uint64 // the position at which the file system was whole

	mu   sync.Mutex
	recs []journal.Record
}

func tool(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Fatalf("%s is not installed: run make deps", n)
		}
	}
}

func newStack(t *testing.T, size int64) *stack {
	t.Helper()
	s := &stack{dir: t.TempDir(), size: size}
	s.socket = filepath.Join(s.dir, "nbd")
	if err := os.Truncate(s.file(t, "disk.raw"), size); err != nil {
		t.Fatal(err)
	}
	lower, err := nbd.OpenFile(filepath.Join(s.dir, "disk.raw"), nbd.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.m, err = disk.Open(disk.Config{
		Dir: filepath.Join(s.dir, "capture"), Stream: "u-1", Epoch: 1, Access: disk.Writable, Initial: []capture.Range{},
		QueueBytes: 1 << 30, QueueRecords: 1 << 20, Disks: []disk.DiskConfig{{ID: "a", Lower: lower}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for s.m.Position().InGap {
		time.Sleep(time.Millisecond)
	}
	server := nbd.NewServer(nbd.Config{})
	if err := server.Add(nbd.Export{Backend: s.m.Backend("a")}); err != nil {
		t.Fatal(err)
	}
	l, err := nbd.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(ctx, l) })
	wg.Go(func() { s.collect(ctx) })
	t.Cleanup(func() {
		server.Close()
		cancel()
		wg.Wait()
		if err := s.m.Close(); err != nil {
			t.Error(err)
		}
		lower.Close()
	})
	return s
}

func (s *stack) file(t *testing.T, name string) string {
	t.Helper()
	p := filepath.Join(s.dir, name)
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// collect keeps every record; nothing is released, so payloads may be kept as they are.
func (s *stack) collect(ctx context.Context) {
	for {
		recs, err := s.m.Next(ctx)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.recs = append(s.recs, recs...)
		s.mu.Unlock()
	}
}

// records gives the stream up to what is captured now.
func (s *stack) records(t *testing.T) []journal.Record {
	t.Helper()
	last := s.m.Position().Captured
	for range 5000 {
		s.mu.Lock()
		recs := slices.Clone(s.recs)
		s.mu.Unlock()
		if n := len(recs); n > 0 && recs[n-1].Seq >= last {
			return recs
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("record %d does not come", last)
	return nil
}

// blockLog is QEMU's view: the file it logs to.
func (s *stack) blockLog(t *testing.T) string {
	t.Helper()
	p := s.file(t, "log.raw")
	if err := os.Truncate(p, 4<<30); err != nil {
		t.Fatal(err)
	}
	return p
}

// qemuIO has qemu-io play commands through blklogwrites on the captured disk, and gives the log.
func (s *stack) qemuIO(t *testing.T, commands []string) *os.File {
	t.Helper()
	tool(t, "qemu-io")
	log := s.blockLog(t)
	cmd := exec.Command("qemu-io", "--image-opts", "-t", "none",
		"driver=blklogwrites,file.driver=nbd,file.server.type=unix,file.server.path="+s.socket+",file.discard=unmap,discard=unmap,log.driver=file,log.filename="+log)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\nquit\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-io: %v: %s", err, out)
	}
	if strings.Contains(string(out), "failed") || strings.Contains(string(out), "rror") {
		t.Fatalf("qemu-io: %s", out)
	}
	return openFile(t, log)
}

func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// fileSystem makes a file system on the captured disk, beneath QEMU's log, runs a load on it while it is mounted, and gives
// the log.
func (s *stack) fileSystem(t *testing.T, mkfs []string, load func(t *testing.T, dir string)) *os.File {
	t.Helper()
	tool(t, "qemu-storage-daemon", mkfs[0], "losetup", "blockdev", "mount", "umount")
	log, fuse := s.blockLog(t), s.file(t, "fuse")
	daemon := exec.Command("qemu-storage-daemon",
		"--blockdev", "driver=nbd,node-name=n,discard=unmap,server.type=unix,server.path="+s.socket,
		"--blockdev", "driver=file,node-name=l,filename="+log,
		"--blockdev", "driver=blklogwrites,node-name=w,file=n,log=l,discard=unmap",
		"--export", "type=fuse,id=e,node-name=w,writable=on,mountpoint="+fuse)
	var out strings.Builder
	daemon.Stdout, daemon.Stderr = &out, &out
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		daemon.Process.Signal(os.Interrupt)
		daemon.Wait()
	})
	t.Cleanup(stop)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if info, err := os.Stat(fuse); err == nil && info.Size() == s.size {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the export does not appear: %s", out.String())
		}
	}
	loop := strings.TrimSpace(run(t, "losetup", "--find", "--show", fuse))
	detach := sync.OnceFunc(func() { run(t, "losetup", "--detach", loop) })
	t.Cleanup(detach)
	run(t, mkfs[0], append(mkfs[1:], loop)...)
	run(t, "blockdev", "--flushbufs", loop)
	s.made = s.m.Position().Captured
	at := filepath.Join(s.dir, "mnt")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", loop, at)
	unmount := sync.OnceFunc(func() { run(t, "umount", at) })
	t.Cleanup(unmount)
	load(t, at)
	unmount()
	detach()
	stop() // writes the log's super block
	return openFile(t, log)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, fmt.Sprint(args), err, out)
	}
	return string(out)
}
