package disk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

const childEnv = "UNDERSTUDY_CAPTURE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := captureChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// captureChild is a process that captures a disk behind an NBD server. Batches go to standard output, each after its length;
// the far side's words come by standard input: one letter (rewind, released, stored) and a position.
func captureChild(dir string) error {
	lower, err := nbd.OpenFile(filepath.Join(dir, "disk.raw"), nbd.FileOptions{})
	if err != nil {
		return err
	}
	m, err := Open(Config{
		Dir: filepath.Join(dir, "capture"), MachineUID: "u", Stream: "u-1", Epoch: 1, Access: Writable, ZeroBase: true, Granule: 16 << 10,
		QueueBytes: 2 << 20, QueueRecords: 1000, RotateEvery: 20 * time.Millisecond, Disks: []DiskConfig{{ID: "a", Lower: lower}},
	})
	if err != nil {
		return err
	}
	in := bufio.NewReader(os.Stdin)
	hear := func() error {
		var word string
		var n uint64
		if _, err := fmt.Fscanln(in, &word, &n); err != nil {
			return err
		}
		switch word {
		case "rewind":
			m.Rewind(n)
		case "released":
			m.Release(n)
		case "stored":
			m.Stored(n)
		}
		if c := m.Counters(); !c.Hold() {
			return fmt.Errorf("captured %d is not stored %d + dirty %d", c.Captured, c.Stored, c.Dirty)
		}
		return nil
	}
	if err := hear(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		for {
			if err := hear(); err != nil {
				cancel(err)
				return
			}
		}
	}()
	server := nbd.NewServer(nbd.Config{})
	if err := server.Add(nbd.Export{Backend: m.Backend("a")}); err != nil {
		return err
	}
	l, err := nbd.Listen("unix", filepath.Join(dir, "nbd"))
	if err != nil {
		return err
	}
	go server.Serve(ctx, l)
	for {
		recs, err := m.Next(ctx)
		if err != nil {
			return context.Cause(ctx)
		}
		b, err := journal.AppendBatch(nil, recs)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
			return err
		}
	}
}

// child is such a process as the test sees it.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader
	err bytes.Buffer
}

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+dir)
	c.cmd.Stderr = &c.err
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// serve is the far side, until the child dies.
func (c *child) serve(far *remote, rnd *rand.Rand) {
	spooled, _ := far.positions()
	fmt.Fprintln(c.in, "rewind", spooled+1)
	r := bufio.NewReaderSize(c.out, 1<<20)
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		b := make([]byte, binary.LittleEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		recs, err := journal.DecodeBatch(b)
		if err != nil {
			far.complain("%v", err)
			return
		}
		far.spool(recs)
		spooled, stored := far.positions()
		fmt.Fprintln(c.in, "released", spooled)
		if rnd.IntN(3) == 0 {
			far.store(stored + rnd.Uint64N(spooled-stored+1))
			_, stored = far.positions()
			fmt.Fprintln(c.in, "stored", stored)
		}
	}
}

// slots are sectors with counters. Each worker has its own, and knows the newest that was answered.
const slotsEach = 256

type worker struct {
	first    int64
	answered [slotsEach]uint64
	issued   [slotsEach]uint64
}

// run writes until the process dies.
func (w *worker) run(ctx context.Context, socket string, r *rand.Rand, answers *atomic.Int64) {
	c := dialSoon(ctx, socket)
	if c == nil {
		return
	}
	defer c.Close()
	for {
		slot, n := r.IntN(slotsEach-8), 1+r.IntN(8)
		p := make([]byte, n*512)
		for i := range n {
			w.issued[slot+i]++
			binary.LittleEndian.PutUint64(p[i*512:], w.issued[slot+i])
		}
		if err := c.WriteAt(ctx, p, (w.first+int64(slot))*512, r.IntN(50) == 0); err != nil {
			return // killed
		}
		answers.Add(1)
		for i := range n {
			w.answered[slot+i] = w.issued[slot+i]
		}
		if r.IntN(20) == 0 && c.Flush(ctx) != nil {
			return
		}
	}
}

func dialSoon(ctx context.Context, socket string) *nbd.Client {
	for ctx.Err() == nil {
		if c, err := nbd.Dial(ctx, "unix", socket, "", nbd.DialOptions{}); err == nil {
			return c
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// TestKilled kills the capturing process while four connections write. Whatever was answered is on the disk; the stream goes on
// with a gap, positions never go back (remote.spool sees that they follow each other), and in the end what is stored is the disk.
func TestKilled(t *testing.T) {
	const size, lives = 4 << 20, 5
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "nbd")
	before := make([]byte, size)
	for i := size / 2; i < size; i++ {
		before[i] = byte(i / 512)
	}
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	far := newRemote([]int64{size})
	workers := make([]*worker, 4)
	for i := range workers {
		workers[i] = &worker{first: int64(i) * slotsEach}
	}
	writes := uint64(0)
	for range lives {
		c := startChild(t, dir)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var answers atomic.Int64
		var wg sync.WaitGroup
		serving := rand.New(rand.NewPCG(r.Uint64(), 0))
		wg.Go(func() { c.serve(far, serving) })
		for _, w := range workers {
			r := rand.New(rand.NewPCG(r.Uint64(), 0))
			wg.Go(func() { w.run(ctx, socket, r, &answers) })
		}
		enough := int64(100 + r.IntN(2000))
		eventually(t, "answered writes", func() bool { return answers.Load() >= enough })
		c.cmd.Process.Signal(syscall.SIGKILL)
		cancel()
		wg.Wait()
		c.cmd.Wait()
		if c.err.Len() > 0 {
			t.Fatalf("the process said: %s", c.err.String())
		}
		disk, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range workers {
			for slot, want := range w.answered {
				got := binary.LittleEndian.Uint64(disk[(w.first+int64(slot))*512:])
				if got < want || got > w.issued[slot] {
					t.Fatalf("slot %d holds %d; %d was answered, %d issued", slot, got, want, w.issued[slot])
				}
				w.issued[slot] = max(w.issued[slot], got)
			}
		}
		if r.IntN(2) == 0 {
			far.forget()
		}
	}
	for _, w := range workers {
		for _, n := range w.answered {
			writes += n
		}
	}
	lower, err := nbd.OpenFile(path, nbd.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer lower.Close()
	m := mustOpen(t, Config{
		Dir: filepath.Join(dir, "capture"), Stream: "u-1", Epoch: 1, Disks: []DiskConfig{{ID: "a", Lower: lower}},
	})
	far.finish(t, m)
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range far.problems {
		t.Error(p)
	}
	if at := differs(disk, far.kept[0]); at >= 0 {
		t.Errorf("what is stored differs from the disk at %d", at)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	t.Logf("%d lives, %d sectors written and answered, last position %d", lives, writes, far.spooled)
}
