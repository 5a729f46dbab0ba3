package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// agentPort is where controllers take agents; peerPort is where agents answer each other.
const (
	agentPort = "7443"
	peerPort  = "7445"
)

// The lease of the cluster, which is also that of its grants: the product's defaults.
const (
	leaseTTL    = 3 * time.Second
	leaseMargin = 500 * time.Millisecond
)

// agentMachines run an agent: the routers that hold the fabric's routes, and the appliances.
var agentMachines = []string{"edge", "core", "nva-a", "nva-b"}

// cluster is Understudy on the site: three controllers, four agents and an operator's command line.
type cluster struct {
	l       *nvaLab
	binary  string // the program of the controllers, the agents and the operator
	dir     string
	effects api.Effects
	profile api.Profile
	servers map[string]*process
	agents  map[string]*process
	tokens  map[string]string
	zk      *zooKeeper // nil with the embedded store
	desk    *desk
}

func newCluster(l *nvaLab, o Options) *cluster {
	c := &cluster{l: l, binary: l.binary, effects: api.Effects(o.Effects), profile: api.Profile(o.Profile),
		servers: map[string]*process{}, agents: map[string]*process{}, tokens: map[string]string{}}
	if o.Store == "zookeeper" {
		c.zk = &zooKeeper{l: l}
	}
	return c
}

func (c *cluster) name() string { return "understudy" }

// start makes a new cluster and waits until nva-a or nva-b is active and everybody healthy.
func (c *cluster) start(ctx context.Context) error {
	c.dir = filepath.Join(c.l.run.scratch(), "cluster")
	args := []string{"cluster", "init", "--dir", c.dir}
	for _, name := range controllers {
		args = append(args, "--controller", name+"="+addressOf(name, netManagement))
	}
	if c.zk != nil {
		args = append(args, "--store", "zookeeper", "--store-endpoints", c.zk.endpoints())
		if err := c.zk.start(ctx); err != nil {
			return err
		}
	}
	if c.effects == api.EffectsLease {
		// The routers' next hops are the two addresses, for good.
		if err := c.l.topo.point(outsideVIP, insideVIP); err != nil {
			return err
		}
	}
	if _, err := c.operator(ctx, args...); err != nil {
		return err
	}
	var err error
	if c.desk, err = c.l.openDesk(filepath.Join(c.dir, "client.yaml")); err != nil {
		return err
	}
	for _, name := range controllers {
		if err := c.startController(name); err != nil {
			return err
		}
	}
	if _, err := c.waitLeader(ctx, "", 20*time.Second); err != nil {
		return err
	}
	for _, name := range agentMachines {
		if err := c.startOn(ctx, name); err != nil {
			return err
		}
	}
	if err := c.apply(ctx, c.resources()...); err != nil {
		return err
	}
	return c.steady(ctx)
}

// startController starts one. Its failpoints can be armed.
func (c *cluster) startController(name string) error {
	args := []string{"server", "--dir", filepath.Join(c.dir, name)}
	p, err := c.l.start(name, program{name: name + "-server", path: c.binary, args: args,
		env: []string{failpointEnv + "=" + c.failpointFile(name)}})
	if err != nil {
		return err
	}
	c.servers[name] = p
	return nil
}

// startOn enrols the machine's agent the first time, and starts it.
func (c *cluster) startOn(ctx context.Context, machine string) error {
	if c.tokens[machine] == "" {
		token, err := c.enrolmentToken(ctx, machine)
		if err != nil {
			return err
		}
		c.tokens[machine] = token
	}
	var addresses []string
	for _, name := range controllers {
		addresses = append(addresses, addressOf(name, netManagement)+":"+agentPort)
	}
	p, err := c.l.start(machine, program{name: machine + "-agent", path: c.binary, args: []string{"agent",
		"--dir", filepath.Join(c.dir, "agent-"+machine), "--controllers", strings.Join(addresses, ","),
		"--token", c.tokens[machine], "--peer-listen", addressOf(machine, netManagement) + ":" + peerPort}})
	if err != nil {
		return err
	}
	c.agents[machine] = p
	return nil
}

func (c *cluster) enrolmentToken(ctx context.Context, node string) (string, error) {
	out, err := c.ctl(ctx, "token", "create", "--node", node, "--json")
	if err != nil {
		return "", err
	}
	var reply struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(out, &reply); err != nil || reply.Token == "" {
		return "", fmt.Errorf("token for %s: %q holds none (%w)", node, out, err)
	}
	return reply.Token, nil
}

// operator runs the cluster's program at the operator's desk.
func (c *cluster) operator(ctx context.Context, args ...string) ([]byte, error) {
	out, err := c.l.topo.spaces["operator"].output(ctx, c.binary, args...)
	return []byte(out), err
}

// ctl runs the command line with the operator's rights.
func (c *cluster) ctl(ctx context.Context, args ...string) ([]byte, error) {
	return c.operator(ctx, append(args, "--config", filepath.Join(c.dir, "client.yaml"))...)
}

// apply writes resources.
func (c *cluster) apply(ctx context.Context, resources ...any) error {
	var file bytes.Buffer
	for _, r := range resources {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(&file, "---\n%s\n", b)
	}
	path := filepath.Join(c.dir, "site.yaml")
	if err := writeFile(path, file.String()); err != nil {
		return err
	}
	_, err := c.ctl(ctx, "apply", "-f", path)
	return err
}

// group reads the pair.
func (c *cluster) group(context.Context) (g api.ApplianceGroup, err error) {
	err = c.desk.get("/v1/appliancegroups/"+groupName, &g)
	return g, err
}

// job reads a job.
func (c *cluster) job(_ context.Context, name string) (j api.Job, err error) {
	err = c.desk.get("/v1/jobs/"+name, &j)
	return j, err
}

// active is the assignment's member.
func (c *cluster) active(ctx context.Context) (string, error) {
	g, err := c.group(ctx)
	if err != nil || g.Status.Assignment == nil {
		return "", err
	}
	return g.Status.Assignment.Active, nil
}

// place is where the pair stands: it tells whether anything moved meanwhile.
type place struct {
	active     string
	generation int64
}

func (c *cluster) place(ctx context.Context) (place, error) {
	g, err := c.group(ctx)
	if err != nil {
		return place{}, err
	}
	if g.Status.Assignment == nil {
		return place{}, fmt.Errorf("%w: no assignment", errNotSteady)
	}
	return place{g.Status.Assignment.Active, g.Status.Assignment.Generation}, nil
}

var errNotSteady = errors.New("not steady")

// steady waits until one is active, its job has ended, and all members are up.
func (c *cluster) steady(ctx context.Context) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := c.checkSteady(ctx)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after 30s: %w", err)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (c *cluster) checkSteady(ctx context.Context) error {
	g, err := c.group(ctx)
	if err != nil {
		return err
	}
	if g.Status.Assignment == nil {
		return fmt.Errorf("%w: no assignment", errNotSteady)
	}
	if len(g.Status.Members) < len(appliances) {
		return fmt.Errorf("%w: %d members have a verdict", errNotSteady, len(g.Status.Members))
	}
	for _, m := range g.Status.Members {
		if m.Health != api.Up {
			return fmt.Errorf("%w: %s is %s: %s", errNotSteady, m.Name, m.Health, m.Detail)
		}
	}
	j, err := c.job(ctx, g.Status.Assignment.Job)
	if err != nil {
		return err
	}
	if j.Status.Phase != api.Succeeded {
		return fmt.Errorf("%w: job %s is %s: %s", errNotSteady, j.Metadata.Name, j.Status.Phase, j.Status.Message)
	}
	return nil
}

// killControllers ends every controller, and the store with them.
func (c *cluster) killControllers() {
	for _, p := range c.servers {
		p.kill()
	}
	if c.zk != nil {
		c.zk.kill()
	}
}

// startControllers starts every controller, and the store before them, and waits for a leader.
func (c *cluster) startControllers(ctx context.Context) error {
	if c.zk != nil {
		if err := c.zk.start(ctx); err != nil {
			return err
		}
	}
	for _, name := range controllers {
		if err := c.startController(name); err != nil {
			return err
		}
	}
	_, err := c.waitLeader(ctx, "", 30*time.Second)
	return err
}

// stop ends everything and takes the routes and addresses it made.
func (c *cluster) stop(context.Context) error {
	c.killControllers()
	if c.desk != nil {
		c.desk.close()
	}
	for _, p := range c.agents {
		p.kill()
	}
	var errs []error
	for _, wire := range cables {
		if slices.Contains(appliances, wire.machine) {
			errs = append(errs, c.l.topo.spaces[wire.machine].dropForeignAddresses(wire))
		}
	}
	return errors.Join(append(errs, c.l.topo.unpoint())...)
}
