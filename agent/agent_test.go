package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/steward"
	"github.com/understudy-ha/understudy/wire"
)

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func TestPushesAndRefusals(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	ca := newCA(t)
	f := newFake(t, s, ca, "7-x")
	s.start(f.config("edge"))
	f.ready("")
	want(t, "first", f.push(f.newPush(5, routes(2, "10.0.0.4"))), wire.CodeOK)
	want(t, "kernel", s.via(), "10.0.0.4")

	stale := f.newPush(6, routes(3, "10.0.0.5"))
	life0 := f.newPush(6, routes(3, "10.0.0.5"))
	life0.Life = "another"
	time.Sleep(testTiming.Hold())
	for _, c := range []struct {
		name, code string
		push       *wire.Push
	}{
		{"a leader that was paused", wire.CodeStaleTick, stale},
		{"another life's tick", wire.CodeStaleTick, life0},
		{"old epoch", wire.CodeOldEpoch, f.newPush(4, routes(3, "10.0.0.5"))},
		{"old generation", wire.CodeOldGeneration, f.newPush(5, routes(1, "10.0.0.5"))},
		{"old cluster", wire.CodeOldCluster, changed(f.newPush(9, routes(3, "10.0.0.5")), func(p *wire.Push) { p.Token.ClusterId = "6-x" })},
		{"unproven cluster", wire.CodeUnproven, changed(f.newPush(9, routes(3, "10.0.0.5")), func(p *wire.Push) { p.Token.ClusterId = "8-x" })},
		{"no JSON", wire.CodeInvalid, changed(f.newPush(9, routes(3, "10.0.0.5")), func(p *wire.Push) { p.Sections = []byte("{") })},
		{"no token", wire.CodeOldCluster, changed(f.newPush(9, routes(3, "10.0.0.5")), func(p *wire.Push) { p.Token = nil })},
		{"no next hop", wire.CodeFailed, f.newPush(5, routes(3, "none"))},
	} {
		want(t, c.name, f.push(c.push), c.code)
		want(t, c.name+": kernel", s.via(), "10.0.0.4")
	}
	want(t, "at last", f.push(f.newPush(6, routes(4, "10.0.0.5"))), wire.CodeOK)
	want(t, "kernel", s.via(), "10.0.0.5")
}

func changed(p *wire.Push, f func(*wire.Push)) *wire.Push {
	f(p)
	return p
}

func TestFrozenAgentRefusesWhatWaitedForIt(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	f := newFake(t, s, newCA(t), "1-x")
	p := s.start(f.config("edge"))
	f.ready("")
	want(t, "first", f.push(f.newPush(5, routes(1, "10.0.0.4"))), wire.CodeOK)
	p.freeze()
	late := f.newPush(5, routes(2, "10.0.0.5"))
	f.send(late)
	time.Sleep(testTiming.Hold())
	p.signal(syscall.SIGCONT)
	eventually(t, "the push is answered", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.applied[late.Id] != nil
	})
	want(t, "answer", f.applied[late.Id].Code, wire.CodeStaleTick)
	want(t, "kernel", s.via(), "10.0.0.4")
}

func TestUnprovenClusterIsRefusedFromTheStart(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	f := newFake(t, s, newCA(t), "1-x")
	f.proof = []byte("forged")
	s.start(f.config("edge"))
	f.ready("")
	want(t, "push", f.push(f.newPush(5, routes(1, "10.0.0.4"))), wire.CodeUnproven)
	want(t, "kernel", s.lines(), "")
}

func TestRestartKeepsRoutes(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	f := newFake(t, s, newCA(t), "1-x")
	cfg := f.config("edge")
	p := s.start(cfg)
	life := f.ready("")
	want(t, "push", f.push(f.newPush(5, routes(1, "10.0.0.4"))), wire.CodeOK)
	stop := s.neverWithout(t)
	for _, end := range []func(){p.kill, func() { p.signal(syscall.SIGTERM); _ = p.cmd.Wait() }} {
		end()
		cfg.Token = "" // used up
		p = s.start(cfg)
		life = f.ready(life)
		want(t, "kernel", s.via(), "10.0.0.4")
		want(t, "an older generation", f.push(f.newPush(5, routes(0, "10.0.0.9"))), wire.CodeOldGeneration)
	}
	p.kill()
	_, err := s.net.Run("ip", "route", "add", "10.77.0.0/16", "via", "10.0.0.4", "proto", "85") // as if left by a crash
	must(t, err)
	s.start(cfg)
	f.ready(life)
	eventually(t, "what nobody wants is swept", func() bool { return !strings.Contains(s.lines(), "10.77") })
	stop()
	sections, _ := f.reported()
	if len(sections) != 1 || sections[0].Applied.Generation != 1 || sections[0].Error != "" {
		t.Fatalf("reports %+v", sections)
	}
}

// neverWithout looks all the time that the route is there, until the returned function is called.
func (s *space) neverWithout(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if text, err := s.net.Dump(); err == nil && !strings.Contains(text, "10.99.0.0/16") {
				done <- fmt.Errorf("the route was missing: %s", text)
				return
			}
			time.Sleep(200 * time.Microsecond)
		}
	}()
	return func() {
		t.Helper()
		cancel()
		must(t, <-done)
	}
}

// TestKilledInThePush kills the agent at random moments of pushes. Kernel and disk must agree after the next start, and the route must never be missing.
func TestKilledInThePush(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	f := newFake(t, s, newCA(t), "1-x")
	cfg := f.config("edge")
	p := s.start(cfg)
	life := f.ready("")
	want(t, "push", f.push(f.newPush(5, routes(1, "10.0.0.2"))), wire.CodeOK)
	stop := s.neverWithout(t)
	outcomes := map[string]int{}
	for generation := int64(2); generation < 22; generation++ {
		push := f.newPush(5, routes(generation, fmt.Sprintf("10.0.0.%d", generation)))
		f.send(push)
		time.Sleep(time.Duration(rand.IntN(6000)) * time.Microsecond)
		p.kill()
		p = s.start(cfg)
		life = f.ready(life)
		b, err := os.ReadFile(filepath.Join(cfg.Dir, stateFile))
		must(t, err)
		state, err := steward.DecodeState(b)
		must(t, err)
		kept := state.Sections[lead.SectionKey(api.EngineRoutes, group)]
		want(t, "kernel", s.via(), kept.Section.Routes.Routes[0].Via)
		if f.answered(push.Id) && kept.Section.Generation != generation {
			t.Fatalf("generation %d was answered, and %d is on disk", generation, kept.Section.Generation)
		}
		outcomes[fmt.Sprintf("new on disk %v, answered %v", kept.Section.Generation == generation, f.answered(push.Id))]++
	}
	stop()
	t.Logf("%v", outcomes)
}

func (f *fake) answered(push uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied[push] != nil
}

func TestOthersChangesArePutRight(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	f := newFake(t, s, newCA(t), "1-x")
	s.start(f.config("edge"))
	f.ready("")
	want(t, "push", f.push(f.newPush(5, routes(1, "10.0.0.4"))), wire.CodeOK)
	for i, line := range []string{"ip route del 10.99.0.0/16", "ip route replace 10.99.0.0/16 via 10.0.0.9"} {
		w := strings.Fields(line)
		_, err := s.net.Run(w[0], w[1:]...)
		must(t, err)
		eventually(t, "the route is back after "+line, func() bool { return s.via() == "10.0.0.4" })
		eventually(t, "it is reported", func() bool {
			sections, _ := f.reported()
			return len(sections) == 1 && sections[0].Repaired == int64(i+1)
		})
	}
	must(t, s.net.SetUp("eth0", false))
	time.Sleep(50 * time.Millisecond)
	must(t, s.net.SetUp("eth0", true))
	eventually(t, "the route is back with the link", func() bool { return s.via() == "10.0.0.4" })
	eventually(t, "no error is left", func() bool {
		sections, _ := f.reported()
		return sections[0].Error == ""
	})
}

func TestGrant(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	f := newFake(t, s, newCA(t), "1-x")
	cfg := f.config("nva-a")
	p := s.start(cfg)
	life := f.ready("")
	f.echo([]string{group})
	f.grant(1, addresses(1, nil, "10.0.0.50/24"))
	time.Sleep(2 * testTiming.TTL)
	if _, holds := f.reported(); !s.held() || !slices.Equal(holds, []string{group}) {
		t.Fatalf("a leader renews: held %v, reported %v", s.held(), holds)
	}
	p.kill()
	p = s.start(cfg)
	f.ready(life)
	if !s.held() {
		t.Fatal("a restart within the grant lost the address")
	}
	time.Sleep(testTiming.TTL)
	if !s.held() {
		t.Fatal("the grant of an earlier life is not renewed")
	}

	want(t, "release", f.push(f.newPush(5, addresses(2, nil))), wire.CodeOK)
	if s.held() {
		t.Fatal("answered before the address was gone")
	}
	f.grant(3, addresses(3, nil, "10.0.0.50/24"))
	f.echo(nil)
	ended := time.Now()
	eventually(t, "without echoes the address goes", func() bool { return !s.held() })
	if d := time.Since(ended); d > testTiming.Wait() {
		t.Errorf("held for %v after the last echo, but another may be granted it after %v", d, testTiming.Wait())
	}
	eventually(t, "it is reported", func() bool {
		_, holds := f.reported()
		return len(holds) == 0
	})

	f.grant(4, addresses(4, nil, "10.0.0.50/24"))
	ended = time.Now()
	p.kill()
	eventually(t, "the kernel takes a dead agent's address away", func() bool { return !s.held() })
	if d := time.Since(ended); d > testTiming.Wait() {
		t.Errorf("held for %v after the agent died, but another may be granted it after %v", d, testTiming.Wait())
	}
}

func TestFrozenAgentLosesItsAddress(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	f := newFake(t, s, newCA(t), "1-x")
	p := s.start(f.config("nva-a"))
	f.ready("")
	f.echo([]string{group})
	f.grant(1, addresses(1, nil, "10.0.0.50/24"))
	p.freeze()
	frozen := time.Now()
	eventually(t, "the kernel takes the address away", func() bool { return !s.held() })
	if d := time.Since(frozen); d > testTiming.Wait() {
		t.Errorf("held for %v after the agent froze, but another may be granted it after %v", d, testTiming.Wait())
	}
	f.echo(nil)
	p.signal(syscall.SIGCONT)
	time.Sleep(300 * time.Millisecond)
	if s.held() {
		t.Error("the address came back without a grant")
	}
}

func TestPromisesBetweenAgents(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	ca := newCA(t)
	f, g := newFake(t, s, ca, "1-x"), newFake(t, s, ca, "1-x") // each agent has a controller of its own, so that the test can tell them apart
	a, b := f.config("nva-a"), g.config("nva-b")
	a.PeerListen, b.PeerListen = "127.0.0.1:9501", "127.0.0.1:9502"
	s.start(a)
	pb := s.start(b)
	f.ready("")
	g.ready("")
	f.echo([]string{group})
	f.grant(1, addresses(1, map[string]string{"nva-b": b.PeerListen}, "10.0.0.50/24"))
	f.echo(nil)
	time.Sleep(2 * testTiming.TTL)
	if !s.held() {
		t.Fatal("dropped though the other candidate promises")
	}
	if code := g.push(g.newPush(5, addresses(2, nil, "10.0.0.51/24"))); code != wire.CodeWait {
		t.Fatalf("a grant in spite of the promise: %s", code)
	}
	g.echo([]string{}) // a leader is in touch with the other candidate: it promises no more
	eventually(t, "the address goes", func() bool { return !s.held() })

	g.echo(nil)
	f.echo([]string{group})
	f.grant(3, addresses(3, map[string]string{"nva-b": b.PeerListen}, "10.0.0.50/24"))
	f.echo(nil)
	pb.kill()
	eventually(t, "a dead candidate promises nothing", func() bool { return !s.held() })
}

func TestPromisesAreForNodesOfTheTenantOnly(t *testing.T) {
	ca := newCA(t)
	id := testIdentity(t, ca, pki.Node("default", "nva-b"))
	l := newLoop(Config{Log: quiet()}, id, &disk{}, &hostEngines{}, "life")
	close(l.done) // whoever is let through gets "stopping"
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- l.servePromises(ctx, ln) }()
	for _, c := range []struct {
		who         pki.Identity
		node, owner string
		want        string
	}{
		{pki.Node("default", "nva-a"), "nva-a", group, "stopping"},
		{pki.Node("default", "nva-a"), "nva-c", group, "PermissionDenied"},
		{pki.Node("other", "nva-a"), "nva-a", group, "PermissionDenied"},
		{pki.Node("default", "nva-a"), "nva-a", "ApplianceGroup/other/dmz", "PermissionDenied"},
		{pki.User("ann"), "ann", group, "PermissionDenied"},
	} {
		p := newPeers(testIdentity(t, ca, c.who))
		p.id.Tenant = "default" // whom it expects to answer
		conn, err := p.conn("nva-b", ln.Addr().String())
		must(t, err)
		r, err := wire.NewCandidateClient(conn).Promise(t.Context(), &wire.PromiseRequest{Owner: c.owner, Node: c.node})
		if got := fmt.Sprint(r.GetReason(), err); !strings.Contains(got, c.want) || r.GetPromised() {
			t.Errorf("%+v: got %s", c, got)
		}
		p.close()
	}
	p := newPeers(testIdentity(t, ca, pki.Node("default", "nva-a")))
	conn, err := p.conn("nva-c", ln.Addr().String())
	must(t, err)
	if _, err := wire.NewCandidateClient(conn).Promise(t.Context(), &wire.PromiseRequest{Owner: group, Node: "nva-a"}); err == nil || !strings.Contains(err.Error(), "want node:default/nva-c") {
		t.Errorf("another node answered for the candidate: %v", err)
	}
	p.close()
	cancel()
	must(t, <-served)
}

func testIdentity(t *testing.T, ca *pki.CA, who pki.Identity) *identity {
	t.Helper()
	key, err := pki.NewKey()
	must(t, err)
	cert, err := ca.Issue(time.Now(), pki.Request{CN: who.String(), Public: &key.PublicKey, Server: true, Life: time.Hour})
	must(t, err)
	return &identity{Node: who.Name, Tenant: who.Tenant, ca: ca.Cert, cert: pki.NewHolder(cert, key), TTLMs: 3000, MarginMs: 500}
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	ca := newCA(t)
	f := newFake(t, s, ca, "1-x")
	in := func(cfg Config) error {
		cfg.Log = quiet()
		must(t, os.MkdirAll(cfg.Dir, 0o700))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := openIdentity(ctx, cfg)
		return err
	}
	dead := f.config("edge")
	dead.Controllers = []string{"127.0.0.1:1"}
	if err := in(dead); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no controller: got %v", err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no token":        {func(c *Config) { c.Token = "" }, "token create"},
		"no fingerprint":  {func(c *Config) { c.Token = "us.1.2" }, "64 hexadecimal"},
		"no controllers":  {func(c *Config) { c.Controllers = nil }, "--controllers"},
		"unknown token":   {func(c *Config) { c.Token = wire.JoinToken("us.0.0", ca.Cert.Raw) }, "the token is not known"},
		"another cluster": {func(c *Config) { c.Token = wire.JoinToken(secret+"-edge", newCA(t).Cert.Raw) }, "is not the one that made the token"},
	} {
		cfg := f.config("edge")
		c.change(&cfg)
		p := s.start(cfg)
		err := p.cmd.Wait()
		if err == nil || !strings.Contains(p.log.String(), c.want) {
			t.Errorf("%s: got %v: %s", name, err, p.log.String())
		}
		if _, err := os.Stat(filepath.Join(cfg.Dir, identityFile)); err == nil {
			t.Errorf("%s: an identity was written", name)
		}
	}
	cfg := f.config("edge")
	p := s.start(cfg)
	life := f.ready("")
	info, err := os.Stat(filepath.Join(cfg.Dir, identityFile))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the private key is in a file of mode %v", info.Mode())
	}
	second := s.start(cfg)
	if err := second.cmd.Wait(); err == nil || !strings.Contains(second.log.String(), ErrBusy.Error()) {
		t.Errorf("a second agent: %v: %s", err, second.log.String())
	}
	p.kill()
	cfg.Controllers = nil // from the enrolment
	s.start(cfg)
	f.ready(life)
	if len(f.enrolled) != 1 {
		t.Errorf("enrolled %v", f.enrolled)
	}
}

func TestCertificateIsRenewed(t *testing.T) {
	f := newFake(t, nil, newCA(t), "1-x")
	cfg := f.config("edge")
	cfg.Log = quiet()
	must(t, os.MkdirAll(cfg.Dir, 0o700))
	id, err := openIdentity(t.Context(), cfg)
	must(t, err)
	before := id.cert.Leaf().SerialNumber
	must(t, id.renewAt(t.Context(), f.addr))
	again, err := openIdentity(t.Context(), cfg)
	must(t, err)
	if id.cert.Leaf().SerialNumber.Cmp(before) == 0 || again.cert.Leaf().SerialNumber.Cmp(id.cert.Leaf().SerialNumber) != 0 {
		t.Error("the certificate is the old one")
	}
	must(t, again.renewAt(t.Context(), f.addr)) // with the new one
}

func TestDamagedStateIsNotIgnored(t *testing.T) {
	d, err := openDisk(t.TempDir())
	must(t, err)
	if state, grants, err := d.load(); err != nil || state != nil || grants.Since != nil {
		t.Fatalf("an empty directory: %+v, %+v, %v", state, grants, err)
	}
	must(t, os.WriteFile(filepath.Join(d.dir, stateFile), []byte(`{"version":1`), 0o600))
	must(t, os.WriteFile(filepath.Join(d.dir, grantsFile), []byte(`{`), 0o600))
	if _, _, err := d.load(); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Fatalf("got %v", err)
	}
}

func TestHealthEndpoint(t *testing.T) {
	r := &roles{}
	ask := func(path string) string {
		line, _, _ := bytes.Cut([]byte(healthAnswer([]byte("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"), r)), []byte("\r\n"))
		return strings.Fields(string(line))[1]
	}
	r.set(group, api.RoleActive)
	want(t, "not ready", ask("/healthz")+ask("/active"), "503503")
	r.setReady()
	want(t, "active", ask("/healthz")+ask("/active")+ask("/active/"+group), "200200200")
	r.set(group, api.RoleDraining)
	want(t, "draining", ask("/healthz")+ask("/active"), "200503")
	r.set("ApplianceGroup/default/two", api.RoleActive)
	want(t, "active for another", ask("/active")+ask("/active/"+group)+ask("/active?x=1"), "200503200")
	want(t, "no such path", ask("/")+ask("/active/nobody"), "404503")
	for _, bad := range []string{"", "GET", "POST /healthz HTTP/1.1", "GET /healthz HTTP/2", "GET  /healthz HTTP/1.1"} {
		if got := healthAnswer([]byte(bad+"\r\n\r\n"), r); !strings.HasPrefix(got, "HTTP/1.1 400") {
			t.Errorf("%q: %s", bad, got)
		}
	}
	if got := healthAnswer([]byte("HEAD /healthz HTTP/1.1\r\n\r\n"), r); !strings.HasSuffix(got, "\r\n\r\n") || !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("HEAD: %q", got)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serveHealth(ctx, ln, r) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	for _, piece := range []string{"GET /healthz HT", "TP/1.1\r\n\r", "\n"} {
		_, err = c.Write([]byte(piece))
		must(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	must(t, err)
	if !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("got %q", buf[:n])
	}
	c.Close()
	cancel()
	must(t, <-served)
}

func FuzzHealthAnswer(f *testing.F) {
	f.Add([]byte("GET /active HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := healthAnswer(b, &roles{}); !strings.HasPrefix(got, "HTTP/1.1 ") || strings.Contains(got, " 200 ") {
			t.Fatalf("%q gave %q", b, got)
		}
	})
}

// BenchmarkPush measures from a push leaving the controller to its answer, with the state synced to disk in between.
func BenchmarkPush(b *testing.B) {
	s := newSpace(b)
	f := newFake(b, s, newCA(b), "1-x")
	s.start(f.config("edge"))
	f.ready("")
	f.answers = make(chan *wire.Applied, 1)
	var took []time.Duration
	generation := int64(0)
	for b.Loop() {
		generation++
		p := f.newPush(5, routes(generation, fmt.Sprintf("10.0.0.%d", 2+generation%2)))
		began := time.Now()
		f.send(p)
		if a := <-f.answers; a.Code != wire.CodeOK {
			b.Fatal(a)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
