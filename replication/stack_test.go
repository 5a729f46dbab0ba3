package replication

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/dir"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/vault"
)

// realVault is the vault itself, on a directory.
type realVault struct {
	*vault.Vault
}

// headHook wraps a store: between a segment's put and the head's swap is a place to die.
type headHook struct {
	objstore.Store
	before func()
}

func (h headHook) Put(ctx context.Context, key string, data []byte, cond objstore.Cond) (objstore.Tag, error) {
	if strings.HasSuffix(key, "/head") {
		h.before()
	}
	return h.Store.Put(ctx, key, data, cond)
}

func openRealVault(path string, recipient string, identity age.Identity, before func()) (*realVault, error) {
	ctx := context.Background()
	store, err := dir.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	o := vault.Options{Identity: identity}
	var s objstore.Store = store
	if before != nil {
		s = headHook{store, before}
	}
	v, err := vault.Open(ctx, s, o)
	if errors.Is(err, vault.ErrNoVault) {
		v, err = vault.Create(ctx, s, recipient, o)
	}
	return &realVault{v}, err
}

func (v *realVault) open(ctx context.Context, i StreamInfo) (Appender, error) {
	spec := vault.StreamSpec{ID: i.Stream, Epoch: i.Epoch, Machine: vault.Machine{UID: i.UID}}
	for _, d := range i.Disks {
		spec.Disks = append(spec.Disks, vault.Disk{ID: d.ID, Size: d.Size})
	}
	w, err := v.Writer(ctx, spec)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// sourceConfig starts this program again as a source that may be killed: a capture over a disk, written all the time, and its sender.
type sourceConfig struct {
	Disk, Dir, CA, Cert, Key, Address string
	Stream                            StreamInfo
	// Idle: nothing is written.
	Idle bool
}

// sourceState is a line that the source prints.
type sourceState struct {
	Captured, Stored, Dirty uint64 // records, as counted by the capture
	Last, StoredTo, Point   uint64 // positions
	Holds, InGap            bool
	QueueBytes              int64
	Slowest                 time.Duration // of a write
}

func sourceChild(text string) error {
	var c sourceConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ca, err := pki.ParseCert([]byte(c.CA))
	if err != nil {
		return err
	}
	cert, err := pki.LoadHolder([]byte(c.Cert), []byte(c.Key))
	if err != nil {
		return err
	}
	file, err := nbd.OpenFile(c.Disk, nbd.FileOptions{})
	if err != nil {
		return err
	}
	m, err := disk.Open(disk.Config{Dir: c.Dir, MachineUID: c.Stream.UID, Stream: c.Stream.Stream, Epoch: c.Stream.Epoch,
		Disks: []disk.DiskConfig{{ID: "root", Lower: file}}, QueueBytes: 2 << 20, Access: disk.Writable, ZeroBase: true, RotateEvery: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	lag := func() Lag {
		p := m.Position()
		return Lag{Captured: p.Captured, Oldest: p.OldestUnsent, QueueBytes: p.QueueBytes, InGap: p.InGap}
	}
	snd, err := StartSender(SenderConfig{Source: m, Lag: lag, Stream: c.Stream, Targets: []Target{{Address: c.Address}}, CA: ca, Cert: cert, Log: quietLog()})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var slowest time.Duration
	var point uint64
	tick := time.NewTicker(50 * time.Millisecond)
	b := m.Backend("root")
	for p := make([]byte, 4096); ctx.Err() == nil; {
		select {
		case <-tick.C:
			at := m.Position()
			line, err := json.Marshal(sourceState{at.Counters.Captured, at.Counters.Stored, at.Counters.Dirty, at.Captured, at.Stored, point, at.Counters.Hold(), at.InGap, at.QueueBytes, slowest})
			if err != nil {
				return err
			}
			fmt.Println(string(line))
		default:
		}
		if c.Idle {
			if point == 0 { // refused while there is a gap
				point, _ = m.Point(ctx, journal.PointInfo{ID: "last", Consistency: journal.Crash})
			}
			time.Sleep(time.Millisecond)
			continue
		}
		for i := 0; i < len(p); i += 8 {
			le.PutUint64(p[i:], rand.Uint64())
		}
		began := time.Now()
		if err := b.WriteAt(ctx, p, rand.Int64N(file.Size()/4096)*4096, false); err != nil && ctx.Err() == nil {
			return err
		}
		slowest = max(slowest, time.Since(began))
		if rand.N(50) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return errors.Join(snd.Close(), m.Close(), file.Close())
}

type sourceProcess struct {
	cmd   *exec.Cmd
	lines chan sourceState
}

func (s *site) source(c sourceConfig) *sourceProcess {
	s.t.Helper()
	text, err := json.Marshal(c)
	must(s.t, err)
	cmd := exec.Command(os.Args[0], "-test.v="+fmt.Sprint(testing.Verbose()))
	cmd.Env = append(os.Environ(), "REPLICATION_TEST_SOURCE="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	must(s.t, err)
	must(s.t, cmd.Start())
	p := &sourceProcess{cmd, make(chan sourceState, 1000)}
	go func() {
		defer close(p.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			var st sourceState
			if json.Unmarshal(sc.Bytes(), &st) == nil {
				p.lines <- st
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	s.t.Cleanup(p.kill)
	return p
}

func (p *sourceProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// until reads lines until one is as wanted; in each the counters must hold.
func (p *sourceProcess) until(t testing.TB, what string, ok func(sourceState) bool) sourceState {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		select {
		case st, open := <-p.lines:
			if !open {
				t.Fatal("the source ended: " + what)
			}
			if !st.Holds {
				t.Fatalf("captured is not stored + dirty: %+v", st)
			}
			if ok(st) {
				return st
			}
		case <-deadline:
			t.Fatalf("in a minute not: %s", what)
		}
	}
}

// TestTheWholeWayUnderKills has the real capture, sender, process server and vault, kills each of them with kill -9 while the disk is written, deletes
// the spool now and then, and compares disk and vault byte for byte once quiet.
func TestTheWholeWayUnderKills(t *testing.T) {
	s := newSite(t)
	work := fastDir(t)
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	path := filepath.Join(work, "disk.img")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 8<<20))
	must(t, os.Mkdir(filepath.Join(work, "vault"), 0o700))
	s.info.Disks[0].Size = 8 << 20
	c := s.child(filepath.Join(work, "spool"))
	c.Vault, c.Recipient = filepath.Join(work, "vault"), identity.Recipient().String()
	ps := spawn(t, c)
	c.Address = ps.address
	sc := sourceConfig{Disk: path, Dir: filepath.Join(work, "capture"), CA: c.CA, Address: c.Address, Stream: s.info}
	id := s.child("")
	sc.Cert, sc.Key = id.Cert, id.Key
	src := s.source(sc)
	for i := range 8 {
		var from uint64
		src.until(t, "writing", func(st sourceState) bool { from = st.Stored; return st.Captured > 0 })
		if i > 0 && i%4 != 3 {
			src.until(t, "something more is stored", func(st sourceState) bool { return st.Stored > from })
		}
		switch i % 4 {
		case 0, 2:
			src.kill()
			src = s.source(sc)
		case 1:
			must(t, ps.cmd.Process.Kill())
			_ = ps.cmd.Wait()
			ps = spawn(t, c)
		case 3:
			must(t, ps.cmd.Process.Kill())
			_ = ps.cmd.Wait()
			must(t, os.RemoveAll(c.Dir))
			c.At, c.After = insideAppend, 5 // dies between a segment and its head
			ps = spawn(t, c)
			ps.died(t, 30*time.Second)
			c.At = ""
			ps = spawn(t, c)
		}
	}
	src.kill()
	sc.Idle = true
	src = s.source(sc)
	quiet := src.until(t, "quiet", func(st sourceState) bool { return st.Point > 0 && st.StoredTo == st.Last && st.Dirty == 0 })
	src.kill()
	v, err := openRealVault(c.Vault, c.Recipient, identity, nil)
	must(t, err)
	ctx := context.Background()
	info, err := v.Stream(ctx, s.info.Stream)
	must(t, err)
	if info.InGap() || info.Seq != quiet.StoredTo {
		t.Fatalf("the source says %+v, the vault's stream is at %d with gaps %+v", quiet, info.Seq, info.Gaps)
	}
	view, err := v.View(ctx, s.info.Stream, info.Seq)
	must(t, err)
	defer view.Close()
	got, want := make([]byte, 8<<20), must1(os.ReadFile(path))
	if _, err := view.Disk(0).ReadAt(ctx, got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("byte %d of %d differs first", i, len(got))
			}
		}
	}
	t.Logf("stream at %d, %d gaps", info.Seq, len(info.Gaps))
}

func must1(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
