package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	keys "filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/server"
	"github.com/understudy-ha/understudy/vault"
)

// recoverFlags of one run.
type recoverFlags struct {
	vaultFlags
	dir, name, address, listen, cluster string
	timeout                             time.Duration
	dryRun                              bool
}

func serverRecoverVerb(c *console) *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "recover --vault URL --key FILE",
		Short: "Build a controller from a vault when no other is left",
		Long: `Build a controller from a vault when no other is left, with its keys and backups lost too. It needs the vault and the file with
the vault's private key, nothing else. The controller is a new cluster of one: it has the resources that the leader mirrored into the
vault, of every machine how it was protected, and the recovery points that the vault holds.

Nothing moves by itself: appliance groups are paused, machines wait for an operation. What is missing or damaged is named, and the rest is
used. Agents enrol anew, each in a directory that is new too.

Only when the old controllers cannot come back: two clusters that look after the same machines get in each other's way.
server restore keeps the old cluster's keys, jobs and events; prefer it where a backup and a controller's directory are left.`,
		Example: `  understudy server recover --vault file:///srv/vault --key site.key --address 10.0.9.1 --dry-run
  understudy server recover --vault 's3://vault?endpoint=https://10.0.9.7:9000' --credentials s3.env --key site.key --address 10.0.9.1`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			return c.recover(ctx, f)
		},
	}
	f.vaultFlags.add(cmd, false)
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", os.Getenv("UNDERSTUDY_VAULT_KEY"), "file with the vault's private key, as vault keygen makes it (default $UNDERSTUDY_VAULT_KEY)")
	flags.StringVar(&f.dir, "dir", "", "directory to make for the controller "+dirHelp)
	flags.StringVar(&f.name, "name", "c1", "name of the controller; it is taken to stand at the vault's site")
	flags.StringVar(&f.address, "address", "127.0.0.1", "address or name of this host, by which agents and people reach it; the ports are 7443 and 8443")
	flags.StringVar(&f.listen, "listen", "", "HOST:PORT of the API instead")
	flags.StringVar(&f.cluster, "cluster-listen", "", "HOST:PORT for agents instead")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long to wait for the vault and the store")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be recovered; make nothing")
	return cmd
}

// config gives the controller's.
func (f *recoverFlags) config() (server.Config, error) {
	if strings.ContainsAny(f.address, "/[]") || strings.Count(f.address, ":") == 1 || f.address == "" {
		return server.Config{}, usagef("server recover: --address %q: want an address or name without a port or scheme", f.address)
	}
	cfg := server.Config{Name: f.name, Listen: f.listen, ClusterListen: f.cluster}
	if cfg.Listen == "" {
		cfg.Listen = net.JoinHostPort(f.address, "8443")
	}
	if cfg.ClusterListen == "" {
		cfg.ClusterListen = net.JoinHostPort(f.address, "7443")
	}
	check := cfg
	check.Default(f.dir)
	return cfg, check.Validate()
}

// recovery is what recover answers as JSON.
type recoveryReport struct {
	Vault     string    `json:"vault"` // its id
	Mirrored  string    `json:"mirroredBy"`
	At        time.Time `json:"at,omitzero"`
	Resources []string  `json:"resources"`
	Unused    []string  `json:"unused,omitempty"`
	Doubtful  []string  `json:"doubtful,omitempty"`
	Withheld  []string  `json:"withheld,omitempty"`
	Dir       string    `json:"dir,omitempty"`
	server.Recovered
}

func (c *console) recover(ctx context.Context, f recoverFlags) error {
	f.dir = dirOr(f.dir)
	cfg, err := f.config()
	if err != nil {
		return err
	}
	if err := errors.Join(server.CheckRecoverDir(f.dir), startLog(c.err, "warn")); err != nil {
		return err
	}
	r := server.Recovery{URL: f.url, Config: cfg}
	if err := f.read(ctx, &r); err != nil {
		return err
	}
	_, out := r.Prepare()
	report := recoveryReport{Vault: r.Mirror.Root.ID, Mirrored: r.Mirror.ClusterID, At: r.Mirror.At, Unused: r.Mirror.Unused, Doubtful: r.Mirror.Doubtful,
		Withheld: r.Mirror.Withheld}
	for _, o := range r.Mirror.Objects {
		report.Resources = append(report.Resources, o.Head().Ref().String())
	}
	if !f.dryRun {
		if out, err = server.Recover(ctx, f.dir, r, time.Now()); err != nil {
			return err
		}
		report.Dir = f.dir
	}
	report.Recovered = out
	if c.json {
		return c.printJSON(report)
	}
	c.tellMirror(report, r.Mirror)
	if f.dryRun {
		c.say("This was a dry run: nothing has been made.")
		return nil
	}
	c.tellRecovered(report, cfg, r.Mirror)
	return nil
}

// read reads everything that is in the vault.
func (f *recoverFlags) read(ctx context.Context, r *server.Recovery) error {
	if f.key == "" {
		return usagef("server recover: --key is missing: want the file with the vault's private key")
	}
	id, err := readIdentity(f.key)
	if err != nil {
		return err
	}
	x, ok := id.(*keys.X25519Identity)
	if !ok {
		return usagef("%s: want a private key like AGE-SECRET-KEY-1…", f.key)
	}
	r.Identity = x.String()
	if r.Credentials, err = readCredentials(f.credentials); err != nil {
		return err
	}
	st, err := f.store(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	v, err := vault.Open(ctx, st, vault.Options{Identity: id})
	if errors.Is(err, journal.ErrWrongKey) {
		return usagef("%s: %v", f.key, err)
	}
	if err != nil {
		return err
	}
	if r.Mirror, err = server.ReadMirror(ctx, v); errors.Is(err, server.ErrNoMirror) {
		return api.Errorf(api.CodeNotFound, "%v", err)
	}
	return err
}

// tellMirror shows what was found.
func (c *console) tellMirror(r recoveryReport, m *server.Mirror) {
	when := "at a time that is not known: its list is gone"
	if !r.At.IsZero() {
		when = clockTime(r.At) + ", " + age(time.Now(), r.At) + " ago"
	}
	c.print("Vault %s has %s of cluster %s, as of %s.", r.Vault, plural(len(m.Objects), "resource", "resources"), orDash(r.Mirrored), when)
	t := newTable("MACHINE", "STAGE", "RUNS AT", "STREAM", "POINTS", "NEWEST")
	for _, o := range m.Objects {
		if pm, ok := o.(*api.ProtectedMachine); ok {
			t.add(mirrorRow(pm, m)...)
		}
	}
	if len(t.rows) > 0 {
		t.write(c.out, "  ")
	}
	c.listed("Not used, since it is not whole:", r.Unused)
	c.listed("Used, but look at it:", r.Doubtful)
	c.listed("Other than it was:", r.Notes)
	c.listed("Not there; apply it again:", r.Missing)
}

func mirrorRow(pm *api.ProtectedMachine, m *server.Mirror) []string {
	row := []string{pm.Metadata.Tenant + "/" + pm.Metadata.Name, "-", "-", "-", "-", "-"}
	a := pm.Status.Assignment
	if a == nil || a.Machine == nil {
		return row
	}
	row[1], row[2], row[3] = string(a.Machine.Stage), string(a.Machine.Location), a.Machine.Stream
	if s, ok := m.Streams[a.Machine.Stream]; ok {
		row[4] = plural(len(s.Points), "point", "points")
		if n := len(s.Points); n > 0 {
			row[5] = clockTime(s.Points[n-1].At)
		}
	}
	return row
}

func (c *console) listed(head string, lines []string) {
	if len(lines) == 0 {
		return
	}
	c.print("%s", head)
	for _, l := range lines {
		c.print("  %s", l)
	}
}

// tellRecovered says how to go on.
func (c *console) tellRecovered(r recoveryReport, cfg server.Config, m *server.Mirror) {
	config := " --config " + filepath.Join(r.Dir, server.FileClient)
	c.print("Made controller %s of cluster %s in %s. Its keys are new: keep a copy.", cfg.Name, r.ClusterID, r.Dir)
	c.say(`
Start it, and go on in another terminal:
  understudy server --dir %[2]s
  understudy%[1]s get machines
For the agent of each node that is left, with a --dir that is not there yet (an old one belongs to the cluster that is lost):`, config, r.Dir)
	for _, o := range m.Objects {
		if n, ok := o.(*api.Node); ok {
			c.say("  understudy%s token create --node %s%s", config, n.Metadata.Name, tenantFlag(n.Metadata.Tenant))
		}
	}
	c.say("  understudy agent --controllers %s --dir NEW --token TOKEN     on that host", cfg.ClusterListen)
	for _, o := range m.Objects {
		if pm, ok := o.(*api.ProtectedMachine); ok {
			c.say("Then, if its site is lost:\n  understudy%s failover machine/%s --point latestProcessed --wait%s", config, pm.Metadata.Name, tenantFlag(pm.Metadata.Tenant))
			break
		}
	}
	c.say("The CA is new: `understudy server backup` a copy soon, and add controllers elsewhere.")
}

func tenantFlag(tenant string) string {
	if tenant == api.DefaultTenant {
		return ""
	}
	return " --tenant " + tenant
}
