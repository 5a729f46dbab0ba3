package replication

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/pki"
)

// site is a CA, a vault and what a test starts.
type site struct {
	t     testing.TB
	ca    *pki.CA
	vault *fakeVault
	info  StreamInfo
}

func newSite(t testing.TB) *site {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	must(t, err)
	return &site{t: t, ca: ca, vault: &fakeVault{dir: fastDir(t)}, info: StreamInfo{Machine: "default/web", UID: "u1", Stream: "u1-1", Epoch: 1,
		Disks: []Disk{{ID: "root", Size: 1 << 30}}}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fastDir is a directory in memory: tests kill processes, not machines, so nothing here needs a disk.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "understudy-replication-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func (s *site) holder(id pki.Identity) *pki.Holder {
	s.t.Helper()
	return holder(s.t, s.ca, id)
}

func holder(t testing.TB, ca *pki.CA, id pki.Identity) *pki.Holder {
	t.Helper()
	key, err := pki.NewKey()
	must(t, err)
	cert, err := ca.Issue(time.Now(), pki.Request{CN: id.String(), Public: key.Public().(*ecdsa.PublicKey), Server: true, Life: time.Hour})
	must(t, err)
	return pki.NewHolder(cert, key)
}

func quietLog() *slog.Logger {
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func (s *site) serverConfig(dir string) ServerConfig {
	return ServerConfig{Dir: dir, CA: s.ca.Cert, Cert: s.holder(pki.Node("default", "ps")), Accept: func(StreamInfo) error { return nil },
		OpenStream: s.vault.open, SegmentAge: 20 * time.Millisecond, RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, Log: quietLog()}
}

// serve runs a process server until stop is called, or the test ends. address "" is any.
func serve(t testing.TB, cfg ServerConfig, address string) (ps *ProcessServer, at string, stop func()) {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	lis, err := net.Listen("tcp", address)
	must(t, err)
	ps, err = StartServer(cfg)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- ps.Serve(lis) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			must(t, errors.Join(ps.Close(), <-done))
		}
	}
	t.Cleanup(stop)
	return ps, lis.Addr().String(), stop
}

func (s *site) senderConfig(src *fakeSource, addresses ...string) SenderConfig {
	c := SenderConfig{Source: src, Lag: src.lag, Stream: s.info, CA: s.ca.Cert, Cert: s.holder(pki.Node("default", "host1")), Log: quietLog(), WindowBytes: 1 << 20}
	for _, a := range addresses {
		c.Targets = append(c.Targets, Target{Address: a})
	}
	return c
}

func send(t testing.TB, cfg SenderConfig) *Sender {
	t.Helper()
	s, err := StartSender(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("in 30 seconds not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// load writes random blocks until ctx ends.
func load(ctx context.Context, s *fakeSource, pause time.Duration) {
	for i := 0; ctx.Err() == nil; i++ {
		s.write(rand.N(len(s.disk)))
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

func TestEverythingIsStored(t *testing.T) {
	s := newSite(t)
	ps, at, _ := serve(t, s.serverConfig(fastDir(t)), "")
	src := newFakeSource(64, 10000)
	snd := send(t, s.senderConfig(src, at))
	for range 5000 {
		src.write(rand.N(64))
	}
	src.point("p1")
	eventually(t, "quiet", src.quiet)
	s.vault.check(t, s.info.Stream, src)
	if src.gaps != 0 {
		t.Errorf("%d gaps without a fault", src.gaps)
	}
	eventually(t, "an RPO", func() bool { return !snd.Status().RPOAt.IsZero() && len(ps.Status().Machines) == 1 })
	st := ps.Status()
	if m := st.Machines[0]; !m.Connected || m.Stored != 5001 || m.Info.Node != "default/host1" || m.WaitingBytes != 0 {
		t.Errorf("status %+v", m)
	}
	if got := snd.Status(); got.Stored != 5001 || got.Spooled != 5001 || !got.Connected || len(got.Conditions) != 0 {
		t.Errorf("sender's status %+v", got)
	}
}

// orderSource notes which of the far side's words came first.
type orderSource struct {
	*fakeSource
	said []string
}

func (o *orderSource) note(s string) {
	o.mu.Lock()
	o.said = append(o.said, s)
	o.mu.Unlock()
}

func (o *orderSource) Rewind(from uint64) bool { o.note("rewind"); return o.fakeSource.Rewind(from) }
func (o *orderSource) Release(upTo uint64)     { o.note("release"); o.fakeSource.Release(upTo) }
func (o *orderSource) Stored(upTo uint64)      { o.note("stored"); o.fakeSource.Stored(upTo) }

// A far side of another past must be found out before anything is released or taken for stored.
func TestASenderRewindsFirst(t *testing.T) {
	s := newSite(t)
	_, at, _ := serve(t, s.serverConfig(fastDir(t)), "")
	src := &orderSource{fakeSource: newFakeSource(8, 100)}
	cfg := s.senderConfig(src.fakeSource, at)
	cfg.Source = src
	snd := send(t, cfg)
	eventually(t, "connected", func() bool { return snd.Status().Connected })
	src.mu.Lock()
	defer src.mu.Unlock()
	if src.said[0] != "rewind" {
		t.Errorf("it said %v", src.said)
	}
}
