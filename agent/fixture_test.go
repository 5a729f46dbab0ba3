package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/hostnet"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/wire"
)

const (
	group  = "ApplianceGroup/default/dmz"
	secret = "us.0123456789abcdef.secret"
)

// testTiming is short, so that grants end while a test waits, and long enough for a machine that is busy.
var testTiming = lead.Timing{TTL: 4 * time.Second, Margin: 800 * time.Millisecond}

// TestMain lets a test start this program again as an agent that it may kill.
func TestMain(m *testing.M) {
	text := os.Getenv("AGENT_TEST_CONFIG")
	if text == "" {
		os.Exit(m.Run())
	}
	var cfg Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := Run(ctx, cfg)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// space is a namespace with eth0 at 10.0.0.1/24, in which agents and controllers talk over loopback.
type space struct {
	t   testing.TB
	net *hostnet.Net
}

var spaceCount atomic.Int64

func newSpace(t testing.TB) *space {
	t.Helper()
	name := fmt.Sprintf("us-agent-%d-%d", os.Getpid(), spaceCount.Add(1))
	n, err := hostnet.CreateNamespace(name)
	if err != nil {
		t.Fatalf("namespaces need root: %v", err)
	}
	t.Cleanup(func() { must(t, errors.Join(n.Close(), hostnet.DeleteNamespace(name))) })
	must(t, errors.Join(n.AddVeth("eth0", "eth1", nil), n.AddAddress("eth0", netip.MustParsePrefix("10.0.0.1/24")), n.SetUp("eth0", true), n.SetUp("eth1", true)))
	return &space{t, n}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines gives the routes and addresses that are ours.
func (s *space) lines() string {
	s.t.Helper()
	text, err := s.net.Dump()
	must(s.t, err)
	var out []string
	for l := range strings.Lines(text) {
		if strings.Contains(l, " ours") {
			out = append(out, strings.TrimSpace(l))
		}
	}
	return strings.Join(out, "\n")
}

func (s *space) via() string {
	for l := range strings.Lines(s.lines()) {
		if strings.HasPrefix(l, "route 10.99.0.0/16 ") {
			return strings.Fields(l)[5]
		}
	}
	return ""
}

func (s *space) held() bool { return strings.Contains(s.lines(), "addr 10.0.0.50/24 ") }

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("not so within 30s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// process is an agent in a process of its own.
type process struct {
	t   testing.TB
	cmd *exec.Cmd
	log strings.Builder
}

func (s *space) start(cfg Config) *process {
	s.t.Helper()
	text, err := json.Marshal(cfg)
	must(s.t, err)
	p := &process{t: s.t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), "AGENT_TEST_CONFIG="+string(text))
	p.cmd.Stderr = &p.log
	must(s.t, s.net.Start(p.cmd))
	s.t.Cleanup(func() {
		p.kill()
		if s.t.Failed() {
			s.t.Logf("log of the agent in %s:\n%s", cfg.Dir, p.log.String())
		}
	})
	return p
}

// kill ends the agent without a warning.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// freeze stops the process, and waits until it stands.
func (p *process) freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(p.t, "the process stands still", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		return err == nil && strings.Contains(string(b), ") T ")
	})
}

func (p *process) signal(s syscall.Signal) { must(p.t, p.cmd.Process.Signal(s)) }

// fake is a controller that says what a test wants.
type fake struct {
	wire.UnimplementedControllerServer
	wire.UnimplementedEnrolmentServer
	t       testing.TB
	ca      *pki.CA
	cluster string
	proof   []byte
	addr    string

	mu       sync.Mutex
	session  wire.Controller_SessionServer
	hello    *wire.Hello
	life     string
	seq      uint64 // of the newest tick
	report   *wire.Report
	applied  map[uint64]*wire.Applied
	lastID   uint64
	echoes   []string // owners that each tick renews; nil: no echoes at all
	enrolled []string
	answers  chan *wire.Applied // for the benchmark
}

func newFake(t testing.TB, s *space, ca *pki.CA, cluster string) *fake {
	t.Helper()
	proof, err := ca.Prove(cluster)
	must(t, err)
	f := &fake{t: t, ca: ca, cluster: cluster, proof: proof, applied: map[uint64]*wire.Applied{}}
	key, err := pki.NewKey()
	must(t, err)
	cert, err := ca.Issue(time.Now(), pki.Request{CN: "controller:c1", Public: &key.PublicKey, Server: true, Life: time.Hour})
	must(t, err)
	var ln net.Listener
	listen := func() (err error) {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}
	if s == nil { // for agents' parts that run in the test's own process
		must(t, listen())
	} else {
		must(t, s.net.Do(listen))
	}
	f.addr = ln.Addr().String()
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(pki.ServerTLS(pki.ServerOptions{CA: ca.Cert, Cert: pki.NewHolder(cert, key), NextProtos: []string{"h2"}}))))
	wire.RegisterControllerServer(g, f)
	wire.RegisterEnrolmentServer(g, f)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(ln) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return f
}

func newCA(t testing.TB) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	must(t, err)
	return ca
}

func (f *fake) Authority(context.Context, *wire.AuthorityRequest) (*wire.AuthorityReply, error) {
	return &wire.AuthorityReply{Ca: f.ca.Cert.Raw}, nil
}

// Enrol knows one token a node: secret, "-", its name.
func (f *fake) Enrol(ctx context.Context, q *wire.EnrolRequest) (*wire.EnrolReply, error) {
	name, ok := strings.CutPrefix(q.Token, secret+"-")
	if id, err := callerOf(ctx); q.Token == "" && err == nil {
		name, ok = id.Name, true
	}
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "the token is not known")
	}
	cert, err := f.ca.SignCSR(time.Now(), q.Csr, pki.Request{CN: pki.Node("default", name).String(), Server: true, Life: time.Hour})
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.enrolled = append(f.enrolled, name)
	f.mu.Unlock()
	return &wire.EnrolReply{Certificate: cert.Raw, Ca: f.ca.Cert.Raw, Node: name, Tenant: "default", Controllers: []string{f.addr},
		TtlMs: testTiming.TTL.Milliseconds(), MarginMs: testTiming.Margin.Milliseconds()}, nil
}

func (f *fake) Session(st wire.Controller_SessionServer) error {
	m, err := st.Recv()
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.session, f.hello, f.report, f.life, f.seq = st, m.GetHello(), m.GetHello().GetReport(), "", 0
	f.mu.Unlock()
	if err := st.Send(&wire.ToAgent{M: &wire.ToAgent_Welcome{Welcome: &wire.Welcome{Controller: "c1", ClusterId: f.cluster, ClusterProof: f.proof}}}); err != nil {
		return err
	}
	for {
		m, err := st.Recv()
		if err != nil {
			f.mu.Lock()
			if f.session == st {
				f.session = nil
			}
			f.mu.Unlock()
			return err
		}
		f.mu.Lock()
		f.take(st, m)
		f.mu.Unlock()
	}
}

func (f *fake) take(st wire.Controller_SessionServer, m *wire.FromAgent) {
	switch m := m.M.(type) {
	case *wire.FromAgent_Tick:
		f.life, f.seq = m.Tick.Life, m.Tick.Seq
		if f.echoes != nil {
			_ = st.Send(&wire.ToAgent{M: &wire.ToAgent_Echo{Echo: &wire.Echo{Seq: f.seq, Life: f.life, ClusterId: f.cluster, Epoch: 5, Renews: f.echoes}}})
		}
	case *wire.FromAgent_Applied:
		f.applied[m.Applied.Push] = m.Applied
		if f.answers != nil {
			f.answers <- m.Applied
		}
	case *wire.FromAgent_Report:
		f.report = m.Report
	}
}

// ready waits for a session of a life other than the given one, and gives its life.
func (f *fake) ready(not string) (life string) {
	f.t.Helper()
	eventually(f.t, "an agent has a session and ticks", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		life = f.life
		return f.session != nil && life != "" && life != not
	})
	return life
}

// echo says whose grants each tick renews from now on; nil ends the echoes.
func (f *fake) echo(owners []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.echoes = owners
}

// newPush makes a push with the newest tick.
func (f *fake) newPush(epoch int64, sections ...api.Section) *wire.Push {
	b, err := json.Marshal(sections)
	must(f.t, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastID++
	return &wire.Push{Id: f.lastID, Life: f.life, Tick: f.seq, Sections: b, Token: &wire.Token{ClusterId: f.cluster, Epoch: epoch, Generation: sections[0].Generation}}
}

// send sends a push and does not wait.
func (f *fake) send(p *wire.Push) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session != nil {
		_ = f.session.Send(&wire.ToAgent{M: &wire.ToAgent_Push{Push: p}})
	}
}

// push sends a push and gives the answer's code.
func (f *fake) push(p *wire.Push) string {
	f.t.Helper()
	f.send(p)
	var a *wire.Applied
	eventually(f.t, "the push is answered", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		a = f.applied[p.Id]
		return a != nil
	})
	return a.Code
}

// grant pushes until a promise that an earlier life may have given is over.
func (f *fake) grant(generation int64, sections ...api.Section) {
	f.t.Helper()
	eventually(f.t, "the grant is taken", func() bool { return f.push(f.newPush(5, sections...)) == wire.CodeOK })
}

// newest report of the agent.
func (f *fake) reported() (sections []api.SectionStatus, holds []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.report != nil {
		must(f.t, json.Unmarshal(f.report.Sections, &sections))
	}
	return sections, f.report.GetHolds()
}

func routes(generation int64, via string) api.Section {
	return api.Section{Engine: api.EngineRoutes, Owner: group, Generation: generation,
		Routes: &api.RoutesConfig{Routes: []api.KernelRoute{{Prefix: "10.99.0.0/16", Via: via}}}}
}

func addresses(generation int64, candidates map[string]string, list ...string) api.Section {
	c := &api.AddressesConfig{Candidates: candidates}
	for _, a := range list {
		c.Addresses = append(c.Addresses, api.HeldAddress{Address: a, Link: "eth0"})
	}
	return api.Section{Engine: api.EngineAddresses, Owner: group, Generation: generation, Addresses: c}
}

// config of an agent called name that enrols with the fake.
func (f *fake) config(name string) Config {
	return Config{Dir: filepath.Join(f.t.TempDir(), name), Controllers: []string{f.addr}, Token: wire.JoinToken(secret+"-"+name, f.ca.Cert.Raw)}
}

// quiet is a logger for agents in this process.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
