package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/hypervisor/guest"
	"github.com/understudy-ha/understudy/hypervisor/guest/workload"
)

// The two sites of a protected machine, and a witness:
//
//	site P: c1, p1 (host), psp (process server), vault vp ──┐ the line that is cut
//	site R: c2, r1 (host), psr (process server), vault vr ──┴── c3 (witness), operator
//
// The machine db runs on p1 in peace, and on r1 when P is gone.
const (
	netSiteP = "sp"
	netRest  = "wan"
	machine  = "db"

	servicePort = "8080" // of db where it runs
	drillPort   = "8090" // of db in a drill
	shipPort    = "9443"
)

var machineCables = []cable{
	{"c1", netSiteP, netSiteP, "10.0.9.1/24"},
	{"p1", netSiteP, netSiteP, "10.0.9.21/24"},
	{"psp", netSiteP, netSiteP, "10.0.9.22/24"},
	{"c2", netRest, netRest, "10.0.9.2/24"},
	{"c3", netRest, netRest, "10.0.9.3/24"},
	{"operator", netRest, netRest, "10.0.9.9/24"},
	{"r1", netRest, netRest, "10.0.9.31/24"},
	{"psr", netRest, netRest, "10.0.9.32/24"},
}

// serviceAddress is where the machine's service is reached on a host. A drill is reached from its host alone.
func serviceAddress(host, port string) string {
	if port == drillPort {
		return "127.0.0.1:" + port
	}
	return machineAddress(host) + ":" + port
}

// siteP is all that is lost with it.
var siteP = []string{"c1", "p1", "psp"}

// machineAgents run an agent.
var machineAgents = []string{"p1", "psp", "r1", "psr"}

func machineAddress(name string) string {
	for _, c := range machineCables {
		if c.machine == name {
			addr, _, _ := strings.Cut(c.address, "/")
			return addr
		}
	}
	panic("lab: no machine " + name)
}

// machineLab is both sites with Understudy on them.
type machineLab struct {
	*nvaLab
	o      Options
	r      *Result
	dir    string // on a disk
	config string // of the operator's command line
	agents string // cluster endpoints that agents are told, with commas between them
	tokens map[string]string
	procs  map[string]*process // controllers and agents by machine
	desk   *desk
	keys   map[string]*age.X25519Identity
	disk   string // the machine's at P
	guest  guestKind
}

// guestKind is what runs in the machine.
type guestKind struct {
	debian bool // with PostgreSQL; otherwise the workload that proves its disk
	port   int  // of its service
	memory int  // MiB
	size   int64
	freeze string // how often its file systems are frozen for a point
}

var (
	tinyGuest   = guestKind{port: 80, memory: 256, size: 256 << 20, freeze: "0s"}
	debianGuest = guestKind{debian: true, port: 5432, memory: 1024, size: 3 << 30, freeze: "1h"}
)

// newMachineLab builds the sites, starts the control plane and the agents. Whatever it gives, also with an error, the caller closes.
func newMachineLab(ctx context.Context, o Options, r *Result) (l *machineLab, err error) {
	l = &machineLab{nvaLab: &nvaLab{binary: o.Binary, progress: o.Progress, own: map[string][]*process{}}, o: o, r: r,
		tokens: map[string]string{}, procs: map[string]*process{}, keys: map[string]*age.X25519Identity{}, guest: tinyGuest}
	if l.binary == "" {
		if l.binary, err = os.Executable(); err != nil {
			return l, err
		}
	}
	if l.run, err = newRunDir(); err != nil {
		return l, err
	}
	if l.logs = o.LogDir; l.logs == "" {
		l.logs = filepath.Join(l.run.path, "logs")
	}
	if err = os.MkdirAll(l.logs, 0o755); err != nil {
		return l, err
	}
	l.dir = l.run.scratch()
	for _, d := range []string{"p/vault", "r/vault"} {
		if err = os.MkdirAll(filepath.Join(l.dir, d), 0o755); err != nil {
			return l, err
		}
	}
	if err = l.wire(); err != nil {
		return l, err
	}
	return l, l.startControl(ctx)
}

// wire makes the machines and the line between the sites.
func (l *machineLab) wire() error {
	l.topo = &topology{run: l.run, spaces: map[string]*space{}, switches: map[string]bool{}}
	if err := l.topo.addSpace("switch"); err != nil {
		return err
	}
	for _, c := range machineCables {
		if err := l.topo.lay(c); err != nil {
			return err
		}
		s := l.topo.spaces[c.machine]
		if err := s.AddAddress("lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := s.SetUp("lo", true); err != nil {
			return err
		}
	}
	sw := l.topo.spaces["switch"]
	if err := sw.AddVeth("line-p", "line-r", sw.Net); err != nil {
		return err
	}
	return errors.Join(sw.plug("line-p", netSiteP), sw.plug("line-r", netRest))
}

// cut cuts the line between site P and the rest, or joins it.
func (l *machineLab) cut(yes bool) error { return l.topo.spaces["switch"].SetUp("line-p", !yes) }

// ctl runs the operator's command line.
func (l *machineLab) ctl(ctx context.Context, args ...string) ([]byte, error) {
	out, err := l.topo.spaces["operator"].output(ctx, l.binary, append(args, "--config", l.config)...)
	return []byte(out), err
}

func (l *machineLab) startControl(ctx context.Context) error {
	l.config = filepath.Join(l.dir, "cluster", "client.yaml")
	args := []string{"cluster", "init", "--dir", filepath.Join(l.dir, "cluster")}
	var endpoints []string
	for _, name := range controllers {
		args = append(args, "--controller", name+"="+machineAddress(name))
		endpoints = append(endpoints, machineAddress(name)+":"+agentPort)
	}
	l.agents = strings.Join(endpoints, ",")
	if _, err := l.topo.spaces["operator"].output(ctx, l.binary, args...); err != nil {
		return err
	}
	for _, name := range controllers {
		if err := l.startController(name); err != nil {
			return err
		}
	}
	if err := l.openDesk(ctx); err != nil {
		return err
	}
	for _, name := range machineAgents {
		if err := l.startAgent(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// openDesk sits down at the operator's desk, and waits until a controller leads.
func (l *machineLab) openDesk(ctx context.Context) (err error) {
	if l.desk != nil {
		l.desk.close()
	}
	if l.desk, err = l.nvaLab.openDesk(l.config); err != nil {
		return err
	}
	if !waitFor(ctx, 30*time.Second, func() bool {
		var s api.ClusterStatus
		return l.desk.get("/v1/status", &s) == nil && s.Leader != ""
	}) {
		return errors.New("no controller leads after 30s")
	}
	return nil
}

func (l *machineLab) startController(name string) (err error) {
	l.procs[name], err = l.start(name, program{name: name + "-server", path: l.binary, args: []string{"server", "--dir", filepath.Join(l.dir, "cluster", name)}})
	return err
}

func (l *machineLab) agentDir(name string) string { return filepath.Join(l.dir, "a-"+name) }

// startAgent enrols a node's agent the first time, and starts it.
func (l *machineLab) startAgent(ctx context.Context, name string) (err error) {
	if l.tokens[name] == "" {
		out, err := l.ctl(ctx, "token", "create", "--node", name, "--json")
		if err != nil {
			return err
		}
		var reply struct{ Token string }
		if err := json.Unmarshal(out, &reply); err != nil || reply.Token == "" {
			return fmt.Errorf("token for %s: %q holds none (%w)", name, out, err)
		}
		l.tokens[name] = reply.Token
	}
	l.procs[name], err = l.start(name, program{name: name + "-agent", path: l.binary, args: []string{"agent", "--dir", l.agentDir(name),
		"--controllers", l.agents, "--token", l.tokens[name]}})
	return err
}

// close removes everything, but for the logs if they are to be kept. Twice is safe.
func (l *machineLab) close() error {
	if l.desk != nil {
		l.desk.close()
	}
	if l.o.LogDir != "" {
		l.keepEngineLogs()
	}
	return l.nvaLab.close()
}

// keepEngineLogs copies what the agents' engines and their guests wrote; what cannot be copied is not kept.
func (l *machineLab) keepEngineLogs() {
	for _, name := range machineAgents {
		for _, pattern := range []string{"engine.log", "vm/*/serial*", "vm/*/*.log"} {
			found, _ := filepath.Glob(filepath.Join(l.agentDir(name), "engines", "*", pattern))
			for _, path := range found {
				if b, err := os.ReadFile(path); err == nil {
					rel, _ := filepath.Rel(filepath.Join(l.agentDir(name), "engines"), path)
					_ = os.WriteFile(filepath.Join(l.logs, name+"-"+strings.ReplaceAll(rel, "/", "-")), b, 0o644)
				}
			}
		}
	}
}

// buildGuest makes the machine's disk at site P.
func (l *machineLab) buildGuest(ctx context.Context, rate float64) error {
	kit, err := guest.Find(ctx)
	if err != nil {
		return err
	}
	l.disk = filepath.Join(l.dir, "p", "db.raw")
	root := guest.Root{Path: l.disk, Size: l.guest.size, Settings: workload.Settings{Hostname: machine, Addresses: []string{"dhcp"}, Rate: rate}}
	if l.guest.debian {
		return kit.BuildDebian(ctx, root)
	}
	return kit.BuildRoot(ctx, root)
}

// service asks the machine's own service at a host's port; where says which machine of the lab asks.
func (l *machineLab) service(ctx context.Context, where, port string) (s workload.State, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	at := l.topo.spaces[where]
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = at.Do(func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+serviceAddress(where, port)+"/state", nil)
	if err != nil {
		return s, err
	}
	a, err := t.RoundTrip(q)
	if err != nil {
		return s, err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return s, fmt.Errorf("the service answers %s", a.Status)
	}
	return s, json.NewDecoder(a.Body).Decode(&s)
}

// waitService waits until the machine's service answers, and tells how long that took from since.
func (l *machineLab) waitService(ctx context.Context, where, port string, since time.Time, limit time.Duration) (s workload.State, took time.Duration, err error) {
	if !waitFor(ctx, limit, func() bool {
		s, err = l.service(ctx, where, port)
		return err == nil
	}) {
		return s, 0, fmt.Errorf("the service at %s does not answer after %s: %w", where, limit, err)
	}
	return s, time.Since(since), nil
}
