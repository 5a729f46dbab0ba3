package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/storetest"
)

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
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err = s.Get(context.Background(), "ready"); errors.Is(err, store.ErrNotFound) {
			return
		}
	}
	t.Fatalf("etcd not ready after 30 s: %v", err)
}

// compactAll drops all history.
func compactAll(t testing.TB, s *Store) {
	t.Helper()
	resp, err := s.client.Get(context.Background(), "x")
	if err == nil {
		_, err = s.client.Compact(context.Background(), resp.Header.Revision)
	}
	if err != nil {
		t.Fatalf("compact: %v", err)
	}
}

func TestEmbedded(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		addr := freePorts(t, 1)[0]
		cfg := Config{Dir: t.TempDir(), ClientURL: "http://" + addr}
		s := open(t, cfg)
		peer := open(t, Config{Endpoints: []string{cfg.ClientURL}})
		ready(t, s)
		ready(t, peer)
		return storetest.Harness{
			Store:  s,
			Peer:   peer,
			Reopen: func() store.Store { return open(t, cfg) },
		}
	})
}

// TestEmbeddedCluster runs the suite between two of three members of one cluster, by calls within the process.
func TestEmbeddedCluster(t *testing.T) {
	var members []*Store
	for _, cfg := range memberConfigs(t, 3) {
		members = append(members, open(t, cfg))
	}
	for _, s := range members {
		ready(t, s)
	}
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		cfg := members[0].cfg
		cfg.Prefix = "/" + t.Name() + "/"
		return storetest.Harness{
			Store: start(cfg, v3client.New(members[0].server.Server), nil),
			Peer:  start(cfg, v3client.New(members[1].server.Server), nil),
		}
	})
}

// TestRemote runs the suite, with mutual TLS, against three servers that are killed by signal.
func TestRemote(t *testing.T) {
	c := startCluster(t, 3)
	raw := c.raw()
	storetest.Run(t, func(t *testing.T) storetest.Harness { return remoteHarness(t, c, raw) })
}

func remoteHarness(t *testing.T, c *cluster, raw *clientv3.Client) storetest.Harness {
	t.Helper()
	cfg := Config{Endpoints: c.endpoints(), ClientTLS: c.files, Prefix: "/" + t.Name() + "/", CompactEvery: -1}
	peer := open(t, cfg)
	var proxies []*storetest.Proxy
	through := cfg
	through.Endpoints = nil
	for _, e := range cfg.Endpoints {
		p, err := storetest.NewProxy(strings.TrimPrefix(e, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		proxies = append(proxies, p)
		through.Endpoints = append(through.Endpoints, "https://"+p.Addr())
	}
	s := open(t, through)
	ready(t, s)
	ready(t, peer)
	return storetest.Harness{
		Store: s,
		Peer:  peer,
		Cut: func() func() {
			for _, p := range proxies {
				p.Cut()
			}
			return func() {
				for _, p := range proxies {
					p.Heal()
				}
			}
		},
		Compact: func() { compactAll(t, peer) },
		KillLeader: func() func() {
			i := c.leader(raw)
			c.kill(i)
			return func() { c.start(i) }
		},
		Reopen: func() store.Store {
			for i := range c.procs {
				c.kill(i)
			}
			for i := range c.procs {
				c.start(i)
			}
			again := open(t, cfg)
			ready(t, again)
			return again
		},
	}
}

func TestRemoteScale(t *testing.T) {
	c := startCluster(t, 3)
	storetest.Scale(t, remoteHarness(t, c, c.raw()))
}

// TestQuorumLost stops two of three members: the third one's calls fail in time and its watch
// is silent; when the others are back, everything goes on.
func TestQuorumLost(t *testing.T) {
	configs := memberConfigs(t, 3)
	for i := range configs {
		configs[i].Timeout = 2 * time.Second
	}
	s := open(t, configs[0])
	others := []*Store{open(t, configs[1]), open(t, configs[2])}
	ready(t, s)
	in, err := s.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	<-in
	for _, o := range others {
		o.Close()
	}
	ctx := context.Background()
	begin := time.Now()
	if _, err := s.Get(ctx, "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get without a quorum: %v", err)
	}
	if _, err := s.List(ctx, ""); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("List without a quorum: %v", err)
	}
	_, err = s.Txn(ctx, nil, []store.Op{{Key: "a", Value: []byte("1")}})
	if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknown) {
		t.Errorf("Txn without a quorum: %v", err)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("three calls with a timeout of 2 s took %v", took)
	}
	for _, cfg := range configs[1:] {
		others = append(others, open(t, cfg))
	}
	ready(t, s)
	if _, err := s.Txn(ctx, nil, []store.Op{{Key: "b", Value: []byte("1")}}); err != nil {
		t.Fatalf("Txn with the quorum back: %v", err)
	}
	wantTold(t, in, "b")
}

// wantTold reads a watch until it tells of key.
func wantTold(t *testing.T, in <-chan store.Batch, key string) {
	t.Helper()
	for end := time.After(20 * time.Second); ; {
		select {
		case b := <-in:
			for _, c := range b.Changes {
				if c.Key == key && !c.Deleted {
					return
				}
			}
		case <-end:
			t.Fatalf("the watch did not tell of %q for 20 s", key)
		}
	}
}

// TestLeaderlessWatch has the one server that is left end the watches of its clients, because it has no
// leader: they go on where they were.
func TestLeaderlessWatch(t *testing.T) {
	c := startCluster(t, 3)
	s := open(t, Config{Endpoints: c.endpoints(), ClientTLS: c.files})
	ready(t, s)
	put := func(key string) {
		t.Helper()
		if _, err := s.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
	}
	in, err := s.Watch(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	put("before")
	wantTold(t, in, "before")
	c.kill(0)
	c.kill(1)
	time.Sleep(3 * time.Second)
	c.start(0)
	c.start(1)
	ready(t, s)
	put("after")
	wantTold(t, in, "after")
}

func TestSnapshot(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	if _, err := s.Txn(t.Context(), nil, []store.Op{{Key: "a/b", Value: []byte("in the snapshot")}}); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := s.Snapshot(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(buf.Bytes(), []byte("/understudy/a/b")) || !bytes.Contains(buf.Bytes(), []byte("in the snapshot")) {
		t.Errorf("%d bytes of snapshot without the key and its value", buf.Len())
	}
}

// TestCompaction writes one key over and over: old states must go and the database must not keep growing.
func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, CompactEvery: 200 * time.Millisecond})
	write := func(n int) {
		for i := range n {
			value := bytes.Repeat([]byte{byte(i)}, 4096)
			if _, err := s.Txn(t.Context(), nil, []store.Op{{Key: "renewed", Value: value}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(300)
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp, err := s.client.Get(t.Context(), "/understudy/renewed")
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.client.Get(t.Context(), "/understudy/renewed", clientv3.WithRev(resp.Kvs[0].CreateRevision))
		if err != nil && strings.Contains(err.Error(), "compacted") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the first state is still there: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	write(300)
	time.Sleep(time.Second)
	s.Close()
	used := usedBytes(t, filepath.Join(dir, "member/snap/db"))
	if used > 400*4096 {
		t.Errorf("600 writes of 4 KiB to one key left %d bytes in use", used)
	}
}

// usedBytes is the size of the database without its free pages.
func usedBytes(t *testing.T, path string) int {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	used := 0
	err = db.View(func(tx *bbolt.Tx) error {
		used = int(tx.Size()) - db.Stats().FreePageN*db.Info().PageSize
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "want one of them"},
		{Config{Dir: "d", Endpoints: []string{"http://a:1"}}, "want one of them"},
		{Config{Endpoints: []string{"a:1"}}, `endpoint 1 "a:1"`},
		{Config{Endpoints: []string{"http://a"}}, `endpoint 1 "http://a"`},
		{Config{Dir: "d", InitialCluster: "a=http://a:1"}, "without a peer URL"},
		{Config{Dir: "d", Prefix: "/x"}, `prefix "/x"`},
		{Config{Dir: "d", Election: time.Second, Heartbeat: time.Second}, "five heartbeats"},
		{Config{Dir: "d", ClientTLS: Files{Cert: "c"}}, "client TLS"},
		{Config{Dir: "d", Timeout: -1}, "timeout -1ns"},
	} {
		_, err := Open(t.Context(), test.cfg)
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%+v: %v, want %q", test.cfg, err, test.want)
		}
	}
}
