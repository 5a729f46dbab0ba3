package server_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
	"github.com/understudy-ha/understudy/freeport"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/server"
	"github.com/understudy-ha/understudy/store/memory"
	"github.com/understudy-ha/understudy/wire"
)

// freePort gives an address that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	at, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// trio is three controllers on one store in memory.
type trio struct {
	t     *testing.T
	dir   string
	names []string
	cfg   map[string]server.Config
	stop  map[string]func() error
	first *memory.Store
	admin *client.Client
	ccfg  client.Config
}

var quickLease = server.LeaseConfig{TTL: api.Duration(600 * time.Millisecond), Margin: api.Duration(100 * time.Millisecond)}

func newTrio(t *testing.T) *trio {
	t.Helper()
	tr := &trio{t: t, dir: t.TempDir(), names: []string{"c1", "c2", "c3"}, cfg: map[string]server.Config{}, stop: map[string]func() error{}, first: memory.New()}
	var cs []server.Controller
	for _, n := range tr.names {
		cs = append(cs, server.Controller{Name: n, Host: "127.0.0.1"})
	}
	if err := server.InitCluster(tr.dir, server.InitOptions{Controllers: cs, Lease: quickLease}, time.Now()); err != nil {
		t.Fatal(err)
	}
	var err error
	if tr.ccfg, err = client.Load(filepath.Join(tr.dir, "client.yaml")); err != nil {
		t.Fatal(err)
	}
	peers, servers := map[string]string{}, []string{}
	listen := map[string]string{}
	for _, n := range tr.names {
		peers[n], listen[n] = freePort(t), freePort(t)
		servers = append(servers, "https://"+listen[n])
	}
	for _, n := range tr.names {
		cfg, err := server.LoadConfig(filepath.Join(tr.dir, n))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Listen, cfg.ClusterListen, cfg.Peers, cfg.Servers = listen[n], peers[n], peers, servers
		cfg.Default(filepath.Join(tr.dir, n))
		tr.cfg[n] = cfg
		tr.start(n)
	}
	tr.ccfg.Servers = servers
	if tr.admin, err = client.New(tr.ccfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, n := range tr.names {
			if err := tr.end(n); err != nil {
				t.Errorf("%s: %v", n, err)
			}
		}
		tr.admin.Close()
	})
	return tr
}

func (tr *trio) start(name string) {
	tr.t.Helper()
	st, err := memory.Open(tr.t.Context(), memory.Config{Peer: tr.first})
	if err != nil {
		tr.t.Fatal(err)
	}
	srv, err := server.New(tr.t.Context(), server.Options{Dir: filepath.Join(tr.dir, name), Config: tr.cfg[name], Version: "test", Store: st})
	if err != nil {
		tr.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	tr.stop[name] = func() error { cancel(); return errors.Join(<-done, srv.Close()) }
}

func (tr *trio) end(name string) error {
	stop := tr.stop[name]
	if stop == nil {
		return nil
	}
	delete(tr.stop, name)
	return stop()
}

func (tr *trio) leader() string {
	var st api.ClusterStatus
	if err := tr.admin.Call(tr.t.Context(), "GET", "/v1/status", nil, "", nil, &st); err != nil {
		tr.t.Fatal(err)
	}
	return st.Leader
}

func (tr *trio) eventually(what string, ok func() bool) {
	tr.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			g, err := tr.admin.Group(tr.t.Context(), "", "dmz")
			b, _ := json.MarshalIndent(g, "", " ")
			tr.t.Fatalf("not in 10s: %s; the group is %s, %v", what, b, err)
		}
	}
}

// fakeAgent enrols, ticks and takes every push.
type fakeAgent struct {
	node  string
	cert  *pki.Holder
	ca    *x509.Certificate
	seq   atomic.Uint64
	mu    sync.Mutex
	state map[string]api.Section // by lead.SectionKey
	token api.Token
	work  sync.WaitGroup
	// secrets that came with pushes; says, if set, is what engines tell of themselves once they were told a section.
	secrets map[string]map[string]string
	says    func(api.Section) *api.EngineState
}

func startAgent(tr *trio, node string) *fakeAgent {
	tr.t.Helper()
	var reply api.TokenReply
	if err := tr.admin.Call(tr.t.Context(), "POST", "/v1/tokens", nil, "", api.TokenRequest{Node: node}, &reply); err != nil {
		tr.t.Fatal(err)
	}
	secret, _, err := wire.SplitToken(reply.Token)
	if err != nil {
		tr.t.Fatal(err)
	}
	a := &fakeAgent{node: node, state: map[string]api.Section{}}
	if a.ca, err = pki.ParseCert([]byte(reply.CA)); err != nil {
		tr.t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		tr.t.Fatal(err)
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		tr.t.Fatal(err)
	}
	conn := dial(tr.t, a.ca, nil, reply.Controllers[0])
	got, err := wire.NewEnrolmentClient(conn).Enrol(tr.t.Context(), &wire.EnrolRequest{Token: secret, Csr: csr})
	if err != nil {
		tr.t.Fatal(err)
	}
	_, err = wire.NewEnrolmentClient(conn).Enrol(tr.t.Context(), &wire.EnrolRequest{Token: secret, Csr: csr})
	if status.Code(err) != codes.Unauthenticated {
		tr.t.Errorf("a token opens twice: %v", err)
	}
	if err := pki.VerifyCluster(a.ca, got.ClusterId, got.ClusterProof); err != nil || got.TtlMs != 600 || got.MarginMs != 100 {
		tr.t.Errorf("%v, %v", got, err)
	}
	cert, err := x509.ParseCertificate(got.Certificate)
	if err != nil {
		tr.t.Fatal(err)
	}
	a.cert = pki.NewHolder(cert, key)
	ctx, cancel := context.WithCancel(context.Background())
	for _, addr := range got.Controllers {
		conn := dial(tr.t, a.ca, a.cert, addr)
		a.work.Go(func() {
			for ctx.Err() == nil {
				_ = a.session(ctx, conn) // controllers come and go
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	tr.t.Cleanup(func() { cancel(); a.work.Wait() })
	return a
}

func dial(t *testing.T, ca *x509.Certificate, cert *pki.Holder, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(pki.ClientTLS(ca, cert, pki.RoleController))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (a *fakeAgent) session(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := wire.NewControllerClient(conn).Session(ctx)
	if err != nil {
		return err
	}
	var send sync.Mutex
	say := func(m *wire.FromAgent) { send.Lock(); defer send.Unlock(); _ = st.Send(m) }
	say(&wire.FromAgent{M: &wire.FromAgent_Hello{Hello: &wire.Hello{Node: a.node, Tenant: "default", Version: "fake", Drivers: []string{"route: none"}}}})
	var ticking sync.WaitGroup
	defer ticking.Wait()
	ticking.Go(func() {
		for ctx.Err() == nil {
			say(&wire.FromAgent{M: &wire.FromAgent_Tick{Tick: &wire.Tick{Seq: a.seq.Add(1), Life: "one"}}})
			time.Sleep(50 * time.Millisecond)
		}
	})
	defer cancel()
	for {
		m, err := st.Recv()
		if err != nil {
			return err
		}
		p := m.GetPush()
		if p == nil {
			continue
		}
		var sections []api.Section
		if err := json.Unmarshal(p.Sections, &sections); err != nil {
			return err
		}
		a.mu.Lock()
		var report []api.SectionStatus
		for _, s := range sections {
			a.state[lead.SectionKey(s.Engine, s.Owner)] = s
		}
		for _, s := range a.state {
			if a.says != nil {
				t := api.Token{ClusterID: p.Token.ClusterId, Epoch: p.Token.Epoch, Generation: s.Generation}
				report = append(report, api.SectionStatus{Engine: s.Engine, Owner: s.Owner, Applied: t, State: a.says(s)})
			}
		}
		if len(p.Secrets) > 0 {
			_ = json.Unmarshal(p.Secrets, &a.secrets)
		}
		a.token = api.Token{ClusterID: p.Token.ClusterId, Epoch: p.Token.Epoch, Generation: p.Token.Generation}
		a.mu.Unlock()
		say(&wire.FromAgent{M: &wire.FromAgent_Applied{Applied: &wire.Applied{Push: p.Id, Code: "ok"}}})
		if report != nil {
			doc, _ := json.Marshal(report)
			say(&wire.FromAgent{M: &wire.FromAgent_Report{Report: &wire.Report{Sections: doc}}})
		}
	}
}

// via gives where the router's default route goes.
func (a *fakeAgent) via() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.state[lead.SectionKey(api.EngineRoutes, "ApplianceGroup/default/dmz")]
	if s.Routes == nil || len(s.Routes.Routes) == 0 {
		return ""
	}
	return s.Routes.Routes[0].Via
}

// appliance answers probes until it is told not to.
func appliance(t *testing.T) (addr string, fail *atomic.Bool) {
	fail = new(atomic.Bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if fail.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), fail
}

// livePair is a group whose members answer probes.
func livePair(t *testing.T) (g *api.ApplianceGroup, failA, failB *atomic.Bool) {
	g = pair("", "dmz", "10")
	g.Spec.RouteTables = g.Spec.RouteTables[:0]
	for i := range g.Spec.Members {
		g.Spec.Members[i].Node = ""
	}
	g.Spec.Probe = api.Probe{Protocol: api.ProbeHTTP, Interval: api.Duration(20 * time.Millisecond), Timeout: api.Duration(500 * time.Millisecond), Rise: 2, Fall: 3}
	g.Spec.Members[0].Probe, failA = appliance(t)
	g.Spec.Members[1].Probe, failB = appliance(t)
	return g, failA, failB
}

func TestThreeControllersFailOver(t *testing.T) {
	tr := newTrio(t)
	ctx := t.Context()
	router := startAgent(tr, "router")
	g, failA, _ := livePair(t)
	for _, o := range []api.Object{provider(""), g} {
		if _, _, err := tr.admin.Apply(ctx, o, false); err != nil {
			t.Fatal(err)
		}
	}
	tr.eventually("a is active", func() bool { return router.via() == "10.0.1.4" })
	failA.Store(true)
	tr.eventually("traffic goes to b", func() bool { return router.via() == "10.0.1.5" })
	tr.eventually("the job has succeeded", func() bool {
		g, err := tr.admin.Group(ctx, "", "dmz")
		if err != nil || g.Status.Assignment == nil {
			return false
		}
		j, err := tr.admin.Job(ctx, "", g.Status.Assignment.Job)
		return err == nil && j.Spec.Kind == api.JobFailover && j.Status.Phase == api.Succeeded
	})
	failA.Store(false)

	old := tr.leader()
	if err := tr.end(old); err != nil {
		t.Fatal(err)
	}
	tr.eventually("another leads", func() bool { l := tr.leader(); return l != "" && l != old })
	tr.eventually("a is up", func() bool {
		g, err := tr.admin.Group(ctx, "", "dmz")
		return err == nil && len(g.Status.Members) == 2 && g.Status.Members[0].Health == api.Up
	})
	var q api.Request
	if err := tr.admin.Call(ctx, "POST", "/v1/appliancegroups/dmz/failover", nil, "", server.FailoverRequest{To: "a"}, &q); err != nil || q.By != "admin" {
		t.Fatalf("%+v, %v", q, err)
	}
	tr.eventually("the new leader moves it back", func() bool { return router.via() == "10.0.1.4" })
	router.mu.Lock()
	if router.token.Epoch < 2 || router.token.Generation != 3 {
		t.Errorf("token %+v, want a second epoch and generation 3", router.token)
	}
	router.mu.Unlock()
	tr.eventually("the node's status says so", func() bool {
		o, err := tr.admin.Get(ctx, api.KindNode, "", "router")
		return err == nil && o.(*api.Node).Status.Connected && o.(*api.Node).Status.Version == "fake"
	})
	tr.eventually("events tell", func() bool {
		l, err := tr.admin.List(ctx, api.KindEvent, "")
		seen := map[string]bool{}
		for _, o := range l {
			seen[o.(*api.Event).Code] = true
		}
		return err == nil && seen["MemberDown"]
	})
	var metrics []byte
	if err := tr.admin.Call(ctx, "GET", "/metrics", nil, "", nil, &metrics); err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{`understudy_member_active{group="dmz",member="a",tenant="default"} 1`, "understudy_probes_total", "understudy_failover_ready"} {
		if !strings.Contains(string(metrics), m) {
			t.Errorf("metrics lack %s", m)
		}
	}
	if err := tr.admin.Delete(ctx, api.KindApplianceGroup, "", "dmz", false); err != nil {
		t.Fatal(err)
	}
}

func TestClusterRefusesStrangers(t *testing.T) {
	tr := newTrio(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a := startAgent(tr, "router")
	addr := tr.cfg["c1"].ClusterListen
	session := func(cert *pki.Holder, node string) error {
		st, err := wire.NewControllerClient(dial(t, a.ca, cert, addr)).Session(ctx)
		if err != nil {
			return err
		}
		hello := &wire.Hello{Node: node, Tenant: "default"}
		if err := st.Send(&wire.FromAgent{M: &wire.FromAgent_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
			return err // EOF says that the answer is there already
		}
		_, err = st.Recv()
		return err
	}
	other, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, _ := pki.NewKey()
	foreign, err := other.Issue(time.Now(), pki.Request{CN: "node:default/router", Public: &key.PublicKey, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"no certificate":      {session(nil, "router"), codes.PermissionDenied},
		"another's name":      {session(a.cert, "nva1"), codes.PermissionDenied},
		"another CA":          {session(pki.NewHolder(foreign, key), "router"), codes.Unavailable},
		"node as controller":  {observe(ctx, dial(t, a.ca, a.cert, addr)), codes.PermissionDenied},
		"nobody as an author": {observe(ctx, dial(t, a.ca, nil, addr)), codes.PermissionDenied},
	} {
		if status.Code(c.err) != c.want {
			t.Errorf("%s: got %v, want %s", name, c.err, c.want)
		}
	}
	renew := func(cert *pki.Holder) (*wire.EnrolReply, error) {
		key, err := pki.NewKey()
		if err != nil {
			return nil, err
		}
		csr, err := pki.NewCSR(key)
		if err != nil {
			return nil, err
		}
		return wire.NewEnrolmentClient(dial(t, a.ca, cert, addr)).Enrol(ctx, &wire.EnrolRequest{Csr: csr})
	}
	if r, err := renew(a.cert); err != nil || r.Node != "router" || len(r.Certificate) == 0 {
		t.Errorf("renewal: %v, %v", r, err)
	}
	if _, err := renew(nil); status.Code(err) != codes.Unauthenticated {
		t.Errorf("renewal without a certificate: %v", err)
	}
	if err := tr.admin.Delete(ctx, api.KindNode, "", "router", false); err != nil {
		t.Fatal(err)
	}
	if _, err := renew(a.cert); status.Code(err) != codes.PermissionDenied {
		t.Errorf("renewal of a deleted node: %v", err)
	}
	if err := session(a.cert, "router"); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("a deleted node: %v", err)
	}
	tr.eventually("the deleted node's sessions end", func() bool {
		var st api.ClusterStatus
		err := tr.admin.Call(ctx, "GET", "/v1/status", nil, "", nil, &st)
		return err == nil && len(st.Agents) == 0
	})
	audit, err := os.ReadFile(filepath.Join(tr.dir, "c1", "audit", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"only nodes open sessions", "unknown authority", "as the certificate says", "only this cluster's controllers"} {
		if !strings.Contains(string(audit), w) {
			t.Errorf("the audit of c1 lacks %q", w)
		}
	}
}

func observe(ctx context.Context, conn *grpc.ClientConn) error {
	st, err := wire.NewPeerClient(conn).Observe(ctx)
	if err != nil {
		return err
	}
	if err := st.Send(&wire.Opinions{Observer: "c2", Opinions: []byte("[]")}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = st.CloseAndRecv()
	return err
}
