package replication

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/pki"
)

// childConfig starts this program again as a process server that may be killed, or kills itself at a failpoint.
type childConfig struct {
	Dir, Vault, CA, Cert, Key, Address string
	// At is the failpoint (or inside-append), After the count of passes before it counts.
	At    string
	After int64
	// SpoolBytes of the server; 0 for the default.
	SpoolBytes int64
	// Recipient, if set: Vault is a real one.
	Recipient string
}

const insideAppend = "inside-append" // a segment is there, the head does not name it

func TestMain(m *testing.M) {
	run := func(string) error { os.Exit(m.Run()); return nil }
	text := os.Getenv("REPLICATION_TEST_SERVER")
	if text != "" {
		run = child
	} else if text = os.Getenv("REPLICATION_TEST_SOURCE"); text != "" {
		run = sourceChild
	}
	flag.Parse()
	if err := run(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(text string) error {
	var c childConfig
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
	var passed atomic.Int64
	at := func(f Failpoint) {
		if string(f) == c.At && passed.Add(1) > c.After {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	open := (&fakeVault{dir: c.Vault, beforeHead: func() { at(insideAppend) }}).open
	if c.Recipient != "" {
		v, err := openRealVault(c.Vault, c.Recipient, nil, func() { at(insideAppend) })
		if err != nil {
			return err
		}
		open = v.open
	}
	ps, err := StartServer(ServerConfig{Dir: c.Dir, CA: ca, Cert: cert, Accept: func(StreamInfo) error { return nil }, OpenStream: open,
		SegmentAge: 10 * time.Millisecond, RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, RotateBytes: 64 << 10,
		SpoolBytes: c.SpoolBytes, Log: quietLog(), Failpoint: at})
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", c.Address)
	if err != nil {
		return err
	}
	fmt.Println(lis.Addr())
	return ps.Serve(lis)
}

type process struct {
	cmd     *exec.Cmd
	address string
}

func spawn(t testing.TB, c childConfig) *process {
	t.Helper()
	text, err := json.Marshal(c)
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.v="+fmt.Sprint(testing.Verbose()))
	cmd.Env = append(os.Environ(), "REPLICATION_TEST_SERVER="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && c.At == "" { // at a failpoint it may die while it replays; died tells
		t.Fatalf("the process server said %q: %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return &process{cmd, strings.TrimSpace(line)}
}

// died waits for a failpoint to end the process.
func (p *process) died(t testing.TB, within time.Duration) {
	t.Helper()
	timer := time.AfterFunc(within, func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process server ended by %v, not by its failpoint", err)
	}
}

func (s *site) child(dir string) childConfig {
	s.t.Helper()
	key, err := pki.NewKey()
	must(s.t, err)
	cert, err := s.ca.Issue(time.Now(), pki.Request{CN: pki.Node("default", "ps").String(), Public: key.Public().(*ecdsa.PublicKey), Server: true, Life: time.Hour})
	must(s.t, err)
	pem, err := pki.EncodeKey(key)
	must(s.t, err)
	return childConfig{Dir: dir, Vault: s.vault.dir, CA: string(s.ca.CertPEM()), Cert: string(pki.EncodeCert(cert.Raw)), Key: string(pem), Address: "127.0.0.1:0"}
}

// TestAKilledProcessServer kills it with kill -9 at each failpoint and in between, keeps or deletes its spool, and starts it again.
func TestAKilledProcessServer(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(fastDir(t), "spool")
	c := s.child(dir)
	p := spawn(t, c)
	c.Address = p.address
	src := newFakeSource(64, 400)
	snd := send(t, s.senderConfig(src, p.address))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { load(ctx, src, 50*time.Microsecond) })
	points := []string{"", string(BeforeSpoolSync), string(AfterSpoolSync), string(BeforeAppend), insideAppend, string(AfterAppendCommit)}
	keptGaps := 0
	for i := range 2 * len(points) {
		spoolGoes := i >= len(points)
		if c.At == "" {
			eventually(t, "connected", func() bool { return snd.Status().Connected })
			time.Sleep(rand.N(100 * time.Millisecond))
			must(t, p.cmd.Process.Kill())
			_ = p.cmd.Wait()
		} else {
			p.died(t, 20*time.Second)
		}
		if spoolGoes {
			must(t, os.RemoveAll(dir))
		} else {
			keptGaps = src.gapCount()
		}
		c.At, c.After = points[(i+1)%len(points)], rand.Int64N(20)
		p = spawn(t, c)
	}
	cancel()
	wg.Wait()
	must(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
	c.At = ""
	spawn(t, c)
	eventually(t, "quiet", src.quiet)
	s.vault.check(t, s.info.Stream, src)
	t.Logf("%d writes, %d gaps, %d of them while spools were kept", src.writes, src.gaps, keptGaps)
}

func (s *fakeSource) gapCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gaps
}

// TestAnAnsweredRecordOutlivesAKill: with its spool kept, a killed process server costs nothing that it had answered.
func TestAnAnsweredRecordOutlivesAKill(t *testing.T) {
	s := newSite(t)
	dir := fastDir(t)
	c := s.child(dir)
	c.At = string(BeforeAppend) // never stores anything
	p := spawn(t, c)
	src := newFakeSource(64, 100000)
	snd := send(t, s.senderConfig(src, p.address))
	src.write(1)
	p.died(t, 20*time.Second)
	c.Address, c.At = p.address, string(BeforeAppend)
	c.After = 1 // replays what it has, then dies
	src.write(2)
	p = spawn(t, c)
	for range 500 {
		src.write(rand.N(64))
		time.Sleep(50 * time.Microsecond)
	}
	p.died(t, 20*time.Second)
	spooled := snd.Status().Spooled
	src.Release(spooled)
	must(t, snd.Close())
	c.At = ""
	spawn(t, c)
	eventually(t, "replayed without a sender", func() bool {
		recs := s.vault.records(t, s.info.Stream)
		return len(recs) > 0 && recs[len(recs)-1].Seq >= spooled
	})
	send(t, s.senderConfig(src, c.Address))
	eventually(t, "quiet", src.quiet)
	if src.gaps != 0 {
		t.Errorf("%d gaps", src.gaps)
	}
	s.vault.check(t, s.info.Stream, src)
}

// TestAFullDiskOfTheSpool: on a file system of 8 MiB the process server stops answering; the source goes on, and once the vault
// takes something again so does the process server.
func TestAFullDiskOfTheSpool(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatalf("mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	s := newSite(t)
	var away atomic.Bool
	s.vault.fail = func() (error, bool) {
		if away.Load() {
			return errors.New("the object store does not answer"), false
		}
		return nil, false
	}
	cfg := s.serverConfig(dir)
	cfg.MinFreeBytes = 1 // the file system itself says when it is full
	ps, at, _ := serve(t, cfg, "")
	src := newFakeSource(64, 50)
	src.size = 64 << 10 // a disk of 4 MiB
	snd := send(t, s.senderConfig(src, at))
	src.write(1)
	eventually(t, "quiet", src.quiet)
	away.Store(true)
	eventually(t, "full", func() bool {
		src.write(rand.N(64))
		c := snd.Status().Conditions
		return len(c) == 1 && c[0].Code == ProcessServerFull
	})
	for range 1000 {
		src.write(rand.N(64))
	}
	if src.gapCount() == 0 {
		t.Error("no gap: nothing was shown")
	}
	if st := ps.Status(); st.Overall != "Critical" || st.SpoolUsed > 8<<20 {
		t.Errorf("%+v", st)
	}
	away.Store(false)
	eventually(t, "quiet", src.quiet)
	s.vault.check(t, s.info.Stream, src)
	if c := snd.Status().Conditions; len(c) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestASpoolLeavesRoomForOthers: by default the spool takes not quite all of its file system, which the agent may share.
func TestASpoolLeavesRoomForOthers(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Fatalf("mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	s := newSite(t)
	var away atomic.Bool
	s.vault.fail = func() (error, bool) {
		if away.Load() {
			return errors.New("the object store does not answer"), false
		}
		return nil, false
	}
	_, at, _ := serve(t, s.serverConfig(dir), "")
	src := newFakeSource(64, 1000)
	src.size = 64 << 10
	snd := send(t, s.senderConfig(src, at))
	src.write(1)
	eventually(t, "quiet", src.quiet)
	away.Store(true)
	eventually(t, "full", func() bool {
		src.write(rand.N(64))
		c := snd.Status().Conditions
		return len(c) == 1 && c[0].Code == ProcessServerFull
	})
	if free, err := diskFree(dir); err != nil || free < 2<<20 || free > 8<<20 {
		t.Errorf("%d bytes of 40 MiB are left, %v", free, err)
	}
}
