package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/server"
	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/memory"
)

// site is one controller on a store in memory, with an admin's client.
type site struct {
	t     *testing.T
	dir   string
	srv   *server.Server
	store store.Store
	admin *client.Client
	cfg   client.Config
}

func newSite(t *testing.T, edit ...func(*server.Config)) *site {
	t.Helper()
	dir := t.TempDir()
	cfg := server.Config{Listen: "127.0.0.1:0", ClusterListen: "127.0.0.1:0", Lease: server.LeaseConfig{TTL: api.Duration(600 * time.Millisecond)}}
	for _, e := range edit {
		e(&cfg)
	}
	cfg.Default(dir)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.EnsureDir(dir, cfg, time.Now()); err != nil {
		t.Fatal(err)
	}
	st := memory.New()
	srv, err := server.New(t.Context(), server.Options{Dir: dir, Config: cfg, Version: "test", Store: st})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, srv.Close(), srv.Close()); err != nil {
			t.Error(err)
		}
	})
	ccfg, err := client.Load(filepath.Join(dir, server.FileClient))
	if err != nil {
		t.Fatal(err)
	}
	ccfg.Servers = []string{"https://" + srv.Addr()}
	s := &site{t: t, dir: dir, srv: srv, store: st, cfg: ccfg}
	s.admin = s.client(ccfg)
	return s
}

func (s *site) client(cfg client.Config) *client.Client {
	s.t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// user makes a token and gives its client.
func (s *site) user(name string, role api.AccessRole, tenant string) *client.Client {
	s.t.Helper()
	var reply api.TokenReply
	if err := s.admin.Call(s.t.Context(), "POST", "/v1/tokens", nil, "", api.TokenRequest{User: name, Role: role, Tenant: tenant}, &reply); err != nil {
		s.t.Fatal(err)
	}
	cfg := s.cfg
	cfg.Token = reply.Token
	return s.client(cfg)
}

func (s *site) apply(c *client.Client, objs ...api.Object) {
	s.t.Helper()
	for _, o := range objs {
		if _, _, err := c.Apply(s.t.Context(), o, false); err != nil {
			s.t.Fatalf("apply %s: %v", o.Head().Ref(), err)
		}
	}
}

func head(k api.Kind, tenant, name string) api.Header {
	return api.Header{APIVersion: api.Version, Kind: k, Metadata: api.Metadata{Name: name, Tenant: tenant}}
}

func provider(tenant string) *api.Provider {
	return &api.Provider{Header: head(api.KindProvider, tenant, "lab"), Spec: api.ProviderSpec{Type: api.ProviderLinux}}
}

// pair is a group whose address ends in the given number.
func pair(tenant, name, last string) *api.ApplianceGroup {
	return &api.ApplianceGroup{Header: head(api.KindApplianceGroup, tenant, name), Spec: api.GroupSpec{
		Serves: []api.Audience{api.ServesInternet}, Provider: "lab",
		Members: []api.Member{
			{Name: "a", Node: name + "-a", NICs: []api.NIC{{Name: "out", Address: "10.0.1.4"}}, Probe: "127.0.0.1:1"},
			{Name: "b", Node: name + "-b", NICs: []api.NIC{{Name: "out", Address: "10.0.1.5"}}, Probe: "127.0.0.1:1"},
		},
		PublicAddresses: []api.PublicAddress{{Name: "web", ID: "router", Address: "203.0.113." + last, NIC: "out"}},
		RouteTables:     []api.RouteTable{{ID: "router/" + last, Routes: []api.Route{{Prefix: "0.0.0.0/0", NIC: "out"}}}},
	}}
}

func code(err error) api.Code {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func wantCode(t *testing.T, err error, want api.Code, text string) {
	t.Helper()
	if code(err) != want || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %q: %v; want %q with %q", code(err), err, want, text)
	}
}

func TestLifeOfAResource(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	s.apply(s.admin, provider(""))
	g, action, err := s.admin.Apply(ctx, pair("", "dmz", "10"), false)
	if err != nil || action != client.Created || g.Head().Metadata.Generation != 1 || g.Head().Metadata.Tenant != "default" {
		t.Fatalf("%v %v %+v", action, err, g)
	}
	if _, action, err = s.admin.Apply(ctx, pair("", "dmz", "10"), false); err != nil || action != client.Unchanged {
		t.Fatalf("applied twice: %v, %v", action, err)
	}
	change := pair("", "dmz", "11")
	dry, action, err := s.admin.Apply(ctx, change, true)
	if err != nil || action != client.Updated || dry.Head().Metadata.Generation != 2 {
		t.Fatalf("dry run: %v, %v", action, err)
	}
	if g, err := s.admin.Group(ctx, "", "dmz"); err != nil || g.Spec.PublicAddresses[0].Address != "203.0.113.10" {
		t.Fatalf("a dry run changed it: %v %v", g.Spec.PublicAddresses, err)
	}
	stale := pair("", "dmz", "12")
	stale.Metadata.ETag = g.Head().Metadata.ETag
	s.apply(s.admin, change)
	_, _, err = s.admin.Apply(ctx, stale, false)
	wantCode(t, err, api.CodePreconditionFailed, "read it again")
	err = s.admin.Call(ctx, "PUT", "/v1/appliancegroups/dmz", nil, "", stale, nil)
	wantCode(t, err, api.CodeNeedsMatch, "If-Match")
	err = s.admin.Call(ctx, "POST", "/v1/appliancegroups", nil, "", change, nil)
	wantCode(t, err, api.CodeAlreadyExists, "PUT")
	err = s.admin.Delete(ctx, api.KindProvider, "", "lab", false)
	wantCode(t, err, api.CodeConflict, "used by ApplianceGroup/default/dmz")
	if err := s.admin.Delete(ctx, api.KindApplianceGroup, "", "dmz", false); err != nil {
		t.Fatal(err)
	}
	if left, err := s.store.List(ctx, "claim/"); err != nil || len(left) != 0 {
		t.Fatalf("claims are left: %v %v", left, err)
	}
	if err := s.admin.Delete(ctx, api.KindProvider, "", "lab", false); err != nil {
		t.Fatal(err)
	}
	_, err = s.admin.Group(ctx, "", "dmz")
	wantCode(t, err, api.CodeNotFound, "not there")
}

func TestAdmissionRefuses(t *testing.T) {
	s := newSite(t)
	s.apply(s.admin, provider(""), pair("", "one", "10"))
	for _, c := range []struct {
		name string
		edit func(*api.ApplianceGroup)
		want []string
	}{
		{"same address", func(g *api.ApplianceGroup) { g.Spec.PublicAddresses[0].Address = "203.0.113.10" },
			[]string{"spec.publicAddresses[0]", "ApplianceGroup/default/one owns it", "ApplianceGroup/default/two cannot"}},
		{"same route", func(g *api.ApplianceGroup) { g.Spec.RouteTables[0].ID = "router/10" },
			[]string{"spec.routeTables[0].routes[0]", "ApplianceGroup/default/one owns it", "ApplianceGroup/default/two cannot"}},
		{"no such provider", func(g *api.ApplianceGroup) { g.Spec.Provider = "gone" }, []string{"spec.provider", `"gone"`, "apply it first"}},
		{"more observers than there are", func(g *api.ApplianceGroup) { g.Spec.Observers.Quorum = 2 }, []string{"spec.observers.quorum", "at most 1"}},
		{"member without probe", func(g *api.ApplianceGroup) { g.Spec.Members[1].Probe = "" }, []string{"spec.members[1].probe", "an address to probe"}},
		{"nothing the planner could move", func(g *api.ApplianceGroup) { g.Spec.PublicAddresses[0].ID = "" }, []string{"spec.publicAddresses[0]", "router"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := pair("", "two", "20")
			c.edit(g)
			_, _, err := s.admin.Apply(t.Context(), g, false)
			for _, w := range c.want {
				wantCode(t, err, api.CodeInvalid, w)
			}
		})
	}
	two := pair("", "two", "20")
	s.apply(s.admin, two)
	one := pair("", "one", "10")
	one.Spec.PublicAddresses[0].Address = "203.0.113.11"
	s.apply(s.admin, one) // gives .10 back
	two.Spec.PublicAddresses[0].Address = "203.0.113.10"
	s.apply(s.admin, two)
}

func TestRolesAndTenants(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	a, b := s.user("ann", api.Operator, "a"), s.user("bob", api.Admin, "b")
	viewer := s.user("vic", api.Viewer, "a")
	s.apply(a, provider("a"), pair("a", "dmz", "10"))
	s.apply(b, provider("b"), pair("b", "dmz", "20"))

	_, _, err := viewer.Apply(ctx, pair("a", "other", "30"), false)
	wantCode(t, err, api.CodeForbidden, "vic is viewer")
	for _, what := range []string{"failover", "pause", "resume"} {
		err = viewer.Call(ctx, "POST", "/v1/appliancegroups/dmz/"+what, nil, "", nil, nil)
		wantCode(t, err, api.CodeForbidden, "operator")
	}
	err = a.Call(ctx, "POST", "/v1/tokens", nil, "", api.TokenRequest{User: "eve", Role: api.Viewer}, nil)
	wantCode(t, err, api.CodeForbidden, "admin")
	err = b.Call(ctx, "POST", "/v1/tokens", nil, "", api.TokenRequest{User: "eve", Role: api.Admin, Tenant: "*"}, nil)
	wantCode(t, err, api.CodeForbidden, "tenant b alone")

	for _, c := range []struct{ method, path string }{
		{"GET", "/v1/appliancegroups/dmz"}, {"DELETE", "/v1/appliancegroups/dmz"}, {"POST", "/v1/appliancegroups/dmz/failover"},
		{"POST", "/v1/appliancegroups/dmz/pause"}, {"GET", "/v1/appliancegroups/dmz/plan"}, {"GET", "/v1/events"}, {"GET", "/v1/appliancegroups"},
	} {
		err := a.Call(ctx, c.method, c.path, client.Query{"tenant": "b"}, "*", nil, nil)
		wantCode(t, err, api.CodeNotFound, "not there")
	}
	foreign := pair("b", "third", "40")
	err = a.Call(ctx, "POST", "/v1/appliancegroups", nil, "", foreign, nil)
	wantCode(t, err, api.CodeNotFound, "not there")
	for _, c := range []struct {
		who  *client.Client
		want int
	}{{a, 1}, {b, 1}, {s.admin, 2}} {
		if l, err := c.who.List(ctx, api.KindApplianceGroup, "*"); err != nil || len(l) != c.want {
			t.Errorf("sees %d groups, %v; want %d", len(l), err, c.want)
		}
	}
	own := pair("a", "thief", "20")
	own.Spec.RouteTables = nil
	s.apply(a, own) // the same address in another tenant's provider is another address

	var audit struct{ Items []api.AuditEntry }
	if err := b.Call(ctx, "GET", "/v1/audit", nil, "", nil, &audit); err != nil {
		t.Fatal(err)
	}
	for _, e := range audit.Items {
		if e.Tenant != "b" {
			t.Errorf("b's audit shows %+v", e)
		}
	}
	if err := s.admin.Call(ctx, "GET", "/v1/audit", client.Query{"tenant": "*"}, "", nil, &audit); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range audit.Items {
		seen[e.Actor+" "+e.Verb+" "+e.Outcome] = true
	}
	for _, w := range []string{"vic create Forbidden", "ann read NotFound", "ann delete NotFound", "ann create ok", "admin create ok", "bob create Forbidden"} {
		if !seen[w] {
			t.Errorf("the audit lacks %q; it has %v", w, seen)
		}
	}
}

func TestCredentials(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	for name, token := range map[string]string{"none": "", "nonsense": "x", "unknown": "us.0123456789abcdef.AAAA", "wrong secret": s.cfg.Token[:len(s.cfg.Token)-3] + "AAA"} {
		cfg := s.cfg
		cfg.Token = token
		_, err := s.client(cfg).List(ctx, api.KindNode, "")
		if code(err) != api.CodeUnauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	vic := s.user("vic", api.Viewer, "*")
	var tokens struct{ Items []api.TokenInfo }
	if err := s.admin.Call(ctx, "GET", "/v1/tokens", nil, "", nil, &tokens); err != nil {
		t.Fatal(err)
	}
	for _, i := range tokens.Items {
		if i.User == "vic" {
			if err := s.admin.Call(ctx, "DELETE", "/v1/tokens/"+i.ID, nil, "", nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := vic.List(ctx, api.KindNode, "")
	wantCode(t, err, api.CodeUnauthenticated, "revoked")
	all, err := s.store.List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if secret := s.cfg.Token[strings.LastIndex(s.cfg.Token, ".")+1:]; strings.Contains(string(e.Value), secret) {
			t.Errorf("%s holds the admin's secret", e.Key)
		}
	}
}

func TestSecretsAreWriteOnly(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	secret := &api.Secret{Header: head(api.KindSecret, "", "arm"), Data: map[string]string{"token": "hunter2hunter2"}}
	got, _, err := s.admin.Apply(ctx, secret, false)
	if err != nil || got.(*api.Secret).Data["token"] != "" {
		t.Fatalf("%v %+v", err, got)
	}
	read, err := s.admin.Get(ctx, api.KindSecret, "", "arm")
	if err != nil || len(read.(*api.Secret).Data) != 1 || read.(*api.Secret).Data["token"] != "" {
		t.Fatalf("%v %+v", err, read)
	}
	_, _, err = s.admin.Apply(ctx, read, false)
	wantCode(t, err, api.CodeInvalid, "data.token")
	op := s.user("ann", api.Operator, "default")
	_, _, err = op.Apply(ctx, secret, false)
	wantCode(t, err, api.CodeForbidden, "needs admin")
	all, err := s.store.List(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if strings.Contains(string(e.Value), "hunter2") {
			t.Errorf("%s holds the secret in plain text", e.Key)
		}
	}
	audit, err := os.ReadFile(filepath.Join(s.dir, "audit", "audit.log"))
	if err != nil || strings.Contains(string(audit), "hunter2") {
		t.Errorf("the audit holds the secret, %v", err)
	}
}

func TestWatch(t *testing.T) {
	s := newSite(t)
	s.apply(s.admin, provider("a"), provider("b"), pair("b", "dmz", "20"))
	viewer := s.user("vic", api.Viewer, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	events := make(chan string, 20)
	ended := make(chan error, 1)
	go func() {
		ended <- viewer.Watch(ctx, api.KindApplianceGroup, "*", "", func(e client.Event) error {
			name := ""
			if e.Object != nil {
				name = " " + e.Object.Head().Ref().String()
			}
			events <- e.Type + name
			return nil
		})
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("no %q", want)
		}
	}
	next("sync")
	s.apply(s.admin, pair("a", "dmz", "10"))
	next("put ApplianceGroup/a/dmz")
	if err := s.admin.Delete(ctx, api.KindApplianceGroup, "b", "dmz", false); err != nil {
		t.Fatal(err)
	}
	if err := s.admin.Delete(ctx, api.KindApplianceGroup, "a", "dmz", false); err != nil {
		t.Fatal(err)
	}
	for got := range events { // statuses may come in between
		if got == "delete ApplianceGroup/a/dmz" {
			break
		}
		if got != "put ApplianceGroup/a/dmz" {
			t.Fatalf("got %q", got)
		}
	}
	cancel()
	<-ended
}

func TestLeadsAndSaysSo(t *testing.T) {
	s := newSite(t)
	deadline := time.Now().Add(5 * time.Second)
	for {
		var st api.ClusterStatus
		if err := s.admin.Call(t.Context(), "GET", "/v1/status", nil, "", nil, &st); err != nil {
			t.Fatal(err)
		}
		if st.Leading && st.Leader == "c1" && st.Epoch == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody leads: %+v", st)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestPlanWithoutStoring(t *testing.T) {
	s := newSite(t)
	var got struct{ Items []api.Plan }
	body := map[string]any{"items": []any{pair("", "dmz", "10"), provider("")}}
	if err := s.admin.Call(t.Context(), "POST", "/v1/plan", nil, "", body, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 1 || len(got.Items[0].Steps) == 0 || got.Items[0].Expected == 0 || got.Items[0].To != "b" {
		t.Fatalf("%+v", got)
	}
	if l, err := s.admin.List(t.Context(), api.KindProvider, ""); err != nil || len(l) != 0 {
		t.Fatalf("a plan stored %v, %v", l, err)
	}
}

// TestClientCertificates opens the API by a certificate, ends that by revoking, and refuses one that has expired.
func TestClientCertificates(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	var reply api.TokenReply
	if err := s.admin.Call(ctx, "POST", "/v1/tokens", nil, "", api.TokenRequest{User: "ann", Role: api.Viewer, Tenant: "a", CSR: csr}, &reply); err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	withCert := func(cert []byte) *client.Client {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "ann.crt"), cert, 0o600), os.WriteFile(filepath.Join(dir, "ann.key"), keyPEM, 0o600)); err != nil {
			t.Fatal(err)
		}
		cfg := s.cfg
		cfg.Token, cfg.CertFile, cfg.KeyFile = "", filepath.Join(dir, "ann.crt"), filepath.Join(dir, "ann.key")
		return s.client(cfg)
	}
	ann := withCert([]byte(reply.Certificate))
	if _, err := ann.List(ctx, api.KindNode, ""); err != nil {
		t.Fatal(err)
	}
	err = ann.Call(ctx, "POST", "/v1/nodes", nil, "", &api.Node{Header: head(api.KindNode, "a", "n")}, nil)
	wantCode(t, err, api.CodeForbidden, "ann is viewer")
	if err := s.admin.Call(ctx, "DELETE", "/v1/tokens/"+reply.ID, nil, "", nil, nil); err != nil {
		t.Fatal(err)
	}
	_, err = ann.List(ctx, api.KindNode, "")
	wantCode(t, err, api.CodeUnauthenticated, "revoked")

	sealer, err := pki.OpenSealer(filepath.Join(s.dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	caPEM, err1 := os.ReadFile(filepath.Join(s.dir, "pki", "ca.crt"))
	sealed, err2 := os.ReadFile(filepath.Join(s.dir, "pki", "ca.key"))
	caKey, err3 := sealer.Open("cluster/ca", sealed)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.LoadCA(caPEM, caKey)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ca.Issue(time.Now().Add(-2*time.Hour), pki.Request{CN: "user:ann", Public: &key.PublicKey, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := withCert(pki.EncodeCert(old.Raw)).List(ctx, api.KindNode, ""); err == nil || code(err) != "" {
		t.Fatalf("expired certificate: %v", err) // the handshake fails, so there is no answer
	}
	audit, err := os.ReadFile(filepath.Join(s.dir, "audit", "audit.log"))
	if err != nil || !strings.Contains(string(audit), "certificate has expired") {
		t.Errorf("the audit lacks the expired certificate, %v", err)
	}
}

// TestControlPlaneMustStayReachable refuses a group whose routes would cut the controllers off from what they need when it is dead,
// and lets one pass that cuts a part.
func TestControlPlaneMustStayReachable(t *testing.T) {
	s := newSite(t, func(c *server.Config) {
		c.Peers = map[string]string{"c1": "10.0.9.1:7443"}
		c.Operators = []string{"192.168.7.0/24", "192.168.8.0/24"}
	})
	s.apply(s.admin, provider(""))
	g := pair("", "dmz", "10")
	for i := range g.Spec.Members {
		g.Spec.Members[i].Probe = fmt.Sprintf("10.0.1.%d:80", 4+i)
	}
	for _, c := range []struct {
		name    string
		sources []string
		prefix  string
		want    string // "" for accepted
	}{
		{"from the controllers to every probe", []string{"10.0.9.0/24"}, "10.0.1.0/24", "2 of 2 paths from controllers to the members' probe addresses"},
		{"from every operator", []string{"192.168.0.0/16"}, "0.0.0.0/0", "2 of 2 paths from operators to controllers"},
		{"from one operator", []string{"192.168.7.0/24"}, "0.0.0.0/0", ""},
		{"from others", []string{"10.0.2.0/24"}, "0.0.0.0/0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.Spec.RouteTables[0].Sources, g.Spec.RouteTables[0].Routes[0].Prefix = c.sources, c.prefix
			g.Spec.RouteTables[0].Routes[0].Name = ""
			_, _, err := s.admin.Apply(t.Context(), g, true)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, err, api.CodeInvalid, "spec.routeTables")
			wantCode(t, err, api.CodeInvalid, c.want)
		})
	}
}
