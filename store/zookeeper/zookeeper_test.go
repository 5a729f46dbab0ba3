package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/storetest"
	"github.com/understudy-ha/understudy/store/zookeeper/zktest"
)

func startEnsemble(t testing.TB, opts zktest.Options) *zktest.Ensemble {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	e, err := zktest.Start(ctx, t.TempDir(), 3, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// ready waits until s answers.
func ready(t testing.TB, s *Store) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err = s.Get(context.Background(), "ready"); errors.Is(err, store.ErrNotFound) {
			return
		}
	}
	t.Fatalf("zookeeper not ready after 30 s: %v", err)
}

var roots atomic.Int64

// harness gives every subtest a root of its own.
func harness(t *testing.T, e *zktest.Ensemble) storetest.Harness {
	t.Helper()
	cfg := Config{Servers: e.Endpoints(), Root: fmt.Sprint("/test/", roots.Add(1)), SessionTimeout: 3 * time.Second}
	through := cfg
	through.Servers = nil
	var proxies []*storetest.Proxy
	for _, server := range cfg.Servers {
		p, err := storetest.NewProxy(server)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		proxies = append(proxies, p)
		through.Servers = append(through.Servers, p.Addr())
	}
	all := func(f func(p *storetest.Proxy)) {
		for _, p := range proxies {
			f(p)
		}
	}
	s, peer := open(t, through), open(t, cfg)
	ready(t, s)
	return storetest.Harness{
		Store: s,
		Peer:  peer,
		Cut: func() func() {
			all((*storetest.Proxy).Cut)
			return func() { all((*storetest.Proxy).Heal) }
		},
		Expire: func() {
			all((*storetest.Proxy).Freeze)
			time.Sleep(2 * time.Second)
			all((*storetest.Proxy).Thaw)
		},
		Compact: func() {}, // there is no history
		KillLeader: func() func() {
			i := leader(t, e)
			if err := e.Kill(i); err != nil {
				t.Fatal(err)
			}
			return func() { restart(t, e, i) }
		},
		Reopen: func() store.Store {
			for i := range cfg.Servers {
				if err := e.Kill(i); err != nil {
					t.Fatal(err)
				}
			}
			restart(t, e, 0, 1, 2)
			return open(t, cfg)
		},
	}
}

func leader(t testing.TB, e *zktest.Ensemble) int {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if i := e.Leader(); i >= 0 {
			return i
		}
	}
	t.Fatal("no zookeeper leader for 30 s")
	return -1
}

func restart(t testing.TB, e *zktest.Ensemble, servers ...int) {
	t.Helper()
	for _, i := range servers {
		if err := e.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	e := startEnsemble(t, zktest.Options{})
	storetest.Run(t, func(t *testing.T) storetest.Harness { return harness(t, e) })
}

func TestScale(t *testing.T) {
	h := harness(t, startEnsemble(t, zktest.Options{}))
	s := h.Peer.(*Store)
	n := 0
	t.Run("followed", func(t *testing.T) {
		n = storetest.Scale(t, h)
	})
	again := open(t, s.cfg)
	ready(t, again)
	most := 0
	for i := range buckets {
		names, _, err := again.link.conn.Children(again.bucket(i))
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(names))
	}
	if most > 5000 || most < n/buckets {
		t.Errorf("the fullest bucket has %d children", most)
	}
}

// TestFrozenServers stops the process of the server that the client is connected to, without closing a
// connection: the client goes to another one.
func TestFrozenServers(t *testing.T) {
	e := startEnsemble(t, zktest.Options{})
	i := (leader(t, e) + 1) % 3 // a follower, so that the others can go on
	all := e.Endpoints()
	s := open(t, Config{Servers: []string{all[i]}, SessionTimeout: time.Second})
	ready(t, s)
	in, err := s.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	<-in
	s.cfg.Servers = all // read by the next attempt to connect only
	if err := syscall.Kill(e.Pid(i), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second/4)
	defer cancel()
	if _, err := s.Get(ctx, "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get from a frozen server: %v", err)
	}
	for {
		_, err := s.Txn(t.Context(), nil, []store.Op{{Key: "a", Value: []byte("1")}})
		if err == nil {
			break
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("no other server after 20 s: %v", err)
		}
	}
	t.Logf("writes go on after %v", time.Since(begin).Round(time.Millisecond))
	for end := time.After(20 * time.Second); ; {
		select {
		case b := <-in:
			if len(b.Changes) == 1 && b.Changes[0].Key == "a" {
				return
			}
		case <-end:
			t.Fatal("the watch did not go on")
		}
	}
}

func TestTLSAndUser(t *testing.T) {
	certs, err := storetest.NewCerts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := startEnsemble(t, zktest.Options{Cert: certs.Cert, Key: certs.Key, CA: certs.CA})
	cfg := Config{
		Servers: e.Endpoints(), User: "us", Password: "secret", Timeout: 30 * time.Second, // servers that start shake hands slowly
		Files: Files{Cert: certs.Cert, Key: certs.Key, CA: certs.CA},
	}
	ours := open(t, cfg)
	op := []store.Op{{Key: "a", Value: []byte("ours")}}
	if _, err := ours.Txn(t.Context(), nil, op); err != nil {
		t.Fatal(err)
	}
	if e, err := ours.Get(t.Context(), "a"); err != nil || string(e.Value) != "ours" {
		t.Fatalf("%+v %v", e, err)
	}
	other := cfg
	other.User, other.Password, other.Timeout = "them", "guess", 3*time.Second
	theirs := open(t, other)
	if _, err := theirs.Get(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("another user reads: %v", err)
	}
	if _, err := theirs.Txn(t.Context(), nil, op); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("another user writes: %v", err)
	}
	if _, err := theirs.List(t.Context(), "none/"); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("another user lists: %v", err)
	}
	plain := cfg
	plain.Files, plain.Timeout = Files{}, 3*time.Second
	if _, err := open(t, plain).Get(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without TLS: %v", err)
	}
	pair, err := cfg.Files.load()
	if err != nil {
		t.Fatal(err)
	}
	pair.Certificates = nil
	plain.TLS = pair
	if _, err := open(t, plain).Get(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a certificate: %v", err)
	}
}

// TestTombstones checks that only old tombstones go, once for all clients, and that a key deleted
// and swept never gets an old revision again.
func TestTombstones(t *testing.T) {
	e := startEnsemble(t, zktest.Options{})
	s, peer := open(t, Config{Servers: e.Endpoints()}), open(t, Config{Servers: e.Endpoints()})
	ctx := t.Context()
	write := func(ops ...store.Op) store.Rev {
		t.Helper()
		revs, err := s.Txn(ctx, nil, ops)
		if err != nil {
			t.Fatal(err)
		}
		return revs[0]
	}
	nodes := func() (n int) {
		t.Helper()
		for i := range buckets {
			names, _, err := s.link.conn.Children(s.bucket(i))
			if err != nil {
				t.Fatal(err)
			}
			n += len(names)
		}
		return n
	}
	in, err := peer.Watch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	first := write(store.Op{Key: "gone", Value: []byte("1")}, store.Op{Key: "kept", Value: []byte("1")})
	write(store.Op{Key: "gone", Delete: true})
	seen := s.sweepUnless(-1)
	if nodes() != 2 {
		t.Fatalf("%d nodes after a sweep of nothing old, want a key and a tombstone", nodes())
	}
	if again := s.sweepUnless(seen); again != seen+1 {
		t.Errorf("a pass counts from %d to %d", seen, again)
	}
	if same := peer.sweepUnless(seen); same != seen+1 {
		t.Errorf("a pass although another client made one: count %d", same)
	}
	if err := s.removeTombstones(ctx, s.link.conn, time.Now().Add(time.Hour).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	if nodes() != 1 {
		t.Fatalf("%d nodes after a sweep, want 1", nodes())
	}
	second := write(store.Op{Key: "gone", Value: []byte("1")})
	if second == first {
		t.Errorf("revision %d came again", first)
	}
	if _, err := s.Txn(ctx, []store.Cond{{Key: "gone", Rev: first}}, []store.Op{{Key: "gone", Delete: true}}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a writer from before the sweep: %v", err)
	}
	view := store.View{}
	for end := time.After(20 * time.Second); view["gone"].Rev != second; {
		select {
		case b := <-in:
			view.Apply(b)
		case <-end:
			t.Fatalf("the watch tells of %+v", view)
		}
	}
}

func TestConfig(t *testing.T) {
	one := []string{"a:1"}
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "none"},
		{Config{Servers: []string{"a"}}, `server "a"`},
		{Config{Servers: one, Root: "x"}, `root "x"`},
		{Config{Servers: one, Root: "/"}, `root "/"`},
		{Config{Servers: one, Root: "/a/"}, `root "/a/"`},
		{Config{Servers: one, SessionTimeout: time.Millisecond}, "session timeout 1ms"},
		{Config{Servers: one, Timeout: -1}, "timeout -1ns"},
		{Config{Servers: one, Tombstones: time.Second}, "tombstones 1s"},
		{Config{Servers: one, User: "u"}, `user "u"`},
		{Config{Servers: one, User: "u:v", Password: "p"}, `user "u:v"`},
		{Config{Servers: one, Files: Files{CA: "c"}}, "want certificate, key and CA"},
	} {
		_, err := Open(t.Context(), test.cfg)
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%+v: %v, want %q", test.cfg, err, test.want)
		}
	}
}

func BenchmarkTxn(b *testing.B) {
	e := startEnsemble(b, zktest.Options{})
	s := open(b, Config{Servers: e.Endpoints()})
	ready(b, s)
	storetest.BenchmarkTxn(b, s)
}

// TestWhileAnswered: reading everything goes on for as long as there are answers, and ends when there are none.
func TestWhileAnswered(t *testing.T) {
	const silence = 400 * time.Millisecond
	ctx, answered, stop := whileAnswered(t.Context(), silence)
	defer stop()
	for range 12 {
		time.Sleep(silence / 10)
		answered()
	}
	if ctx.Err() != nil {
		t.Errorf("it ended although answers came: %v", context.Cause(ctx))
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer for 400ms") {
		t.Errorf("it ended with %v", err)
	}
}
