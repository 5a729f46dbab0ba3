package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
	"github.com/understudy-ha/understudy/install"
)

// installFlags say where to install, how to get there, and what.
type installFlags struct {
	install.Spec
	host, identityFile, knownHosts, hostKey string
	controllers, init, token, binary        string
	wait                                    time.Duration
	dryRun                                  bool
}

// reach are the flags that install and uninstall have in common.
func (f *installFlags) reach(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.host, "host", "", "USER@HOST[:PORT] of the machine, by SSH (default: this machine)")
	flags.StringVar(&f.identityFile, "identity-file", "", "private key to log in with (default: those of ssh-agent, then ~/.ssh/id_ed25519, id_ecdsa, id_rsa)")
	flags.StringVar(&f.knownHosts, "known-hosts", "", "file with the machine's key (default: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts)")
	flags.StringVar(&f.hostKey, "accept-host-key", "", "SHA256:… fingerprint of the machine's key, in place of --known-hosts")
	flags.StringVar(&f.Become, "become", "", "sudo: the login is not root's, and may use it without a password")
	flags.StringVar(&f.init, "init", "", "systemd: a unit, started at boot; none: a process of its own (default: systemd where it runs)")
	flags.StringVar(&f.Dir, "dir", "", "directory of the agent (default: /var/lib/understudy/agent)")
	flags.StringVar(&f.Root, "root", "", "put before every path; needs --init none. For several agents on one machine")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the commands and change nothing")
}

func agentInstallVerb(c *console) *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install --node NAME [--host USER@HOST[:PORT]]",
		Short: "Install or upgrade the agent on a machine, by SSH or here",
		Long: `Install this program as the agent of a machine, or upgrade the one that is there, and wait until the node is connected. If it does
not connect, the machine is made what it was before: the previous binary, settings and unit.

A machine that is not enrolled gets a one-time token, which the controllers make; that needs an admin's credential. Flags of an
agent that is there stay as they are unless given. What the agent has put into the kernel, and engines that it started, go on during
an upgrade.

The machine's key is verified; one that is not known is refused, with its fingerprint. ssh's own configuration is not read.`,
		Example: `  understudy agent install --host root@10.0.9.21 --node p1
  understudy agent install --host ann@10.0.9.21:2222 --become sudo --node p1 --identity-file key --accept-host-key SHA256:…
  understudy agent install --node here --dry-run`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.installAgent(cmd.Context(), f) },
	}
	f.reach(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.Node, "node", "", "node that the machine is to be")
	flags.StringVar(&f.controllers, "controllers", "", "HOST:PORT of every controller's cluster endpoint, with commas between them (default: those that the controllers name)")
	flags.StringVar(&f.token, "token", "", "one-time token, in place of one that is made now")
	flags.StringVar(&f.binary, "binary", "", "another build of this program, for a machine with another processor (default: this one)")
	flags.StringVar(&f.Settings.HealthListen, "health-listen", "", "as of the agent")
	flags.StringVar(&f.Settings.PeerListen, "peer-listen", "", "as of the agent")
	flags.StringVar(&f.Settings.PeerAddress, "peer-address", "", "as of the agent")
	flags.StringVar(&f.Settings.LogLevel, "log-level", "", "as of the agent")
	flags.DurationVar(&f.wait, "wait", 2*time.Minute, "how long the node may take to connect")
	return cmd
}

func agentUninstallVerb(c *console) *cobra.Command {
	var f installFlags
	var purge, force bool
	cmd := &cobra.Command{
		Use:   "uninstall [--host USER@HOST[:PORT]]",
		Short: "Take the agent off a machine",
		Long: `Stop the agent of a machine and take away its binary, settings and unit. Its directory stays, so that it can be installed again as the
same node, unless --purge is given. It is refused while engines of the agent run: what is protected or runs there would be cut off.

The node's resource stays too: "understudy delete node NAME".`,
		Example: `  understudy agent uninstall --host root@10.0.9.21 --purge`,
		Args:    args(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.uninstallAgent(cmd.Context(), f, purge, force) },
	}
	f.reach(cmd)
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the agent's directory too, with the node's identity")
	cmd.Flags().BoolVar(&force, "force", false, "end engines that run")
	return cmd
}

// machineRunner is a machine that commands are run on.
type machineRunner interface {
	install.Runner
	Close() error
}

type thisMachine struct{ install.Local }

func (thisMachine) Close() error { return nil }

// connect reaches the machine and looks at it.
func (c *console) connect(ctx context.Context, f *installFlags) (r machineRunner, t install.Target, err error) {
	f.Init = install.Init(f.init)
	if f.controllers != "" {
		f.Settings.Controllers = strings.Split(f.controllers, ",")
	}
	if err := f.Validate(); err != nil {
		return nil, t, err
	}
	if f.host == "" {
		r = thisMachine{}
	} else if r, err = c.dialSSH(ctx, f); err != nil {
		return nil, t, err
	}
	if t, err = install.Look(ctx, r, f.Spec); err != nil {
		return nil, t, errors.Join(err, r.Close())
	}
	return r, t, nil
}

func (c *console) dialSSH(ctx context.Context, f *installFlags) (machineRunner, error) {
	a, err := install.ParseAddress(f.host)
	if err != nil {
		return nil, err
	}
	if f.knownHosts != "" && f.hostKey != "" {
		return nil, usagef("--known-hosts and --accept-host-key: want one of them")
	}
	keys := install.HostKeys{Files: install.UserKnownHosts(), Fingerprint: f.hostKey}
	if f.knownHosts != "" {
		keys.Files = []string{f.knownHosts}
	}
	return install.Dial(ctx, a, keys, install.Login{IdentityFile: f.identityFile, Prompt: c.prompt()})
}

// prompt asks on the terminal; nil if there is none.
func (c *console) prompt() func(string) (string, error) {
	in, ok := c.in.(*os.File)
	if !ok || !isTerminal(in) {
		return nil
	}
	return func(question string) (string, error) {
		fmt.Fprintf(c.err, "%s: ", strings.TrimSuffix(strings.TrimSpace(question), ":"))
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(c.err)
		return string(b), err
	}
}

// installed is what the verbs print with --json.
type installed struct {
	Node     string       `json:"node,omitempty"`
	Host     string       `json:"host,omitempty"`
	Action   string       `json:"action"`
	Version  string       `json:"version,omitempty"`
	Previous string       `json:"previous,omitempty"`
	Init     install.Init `json:"init"`
}

func (c *console) installAgent(ctx context.Context, f installFlags) (err error) {
	if f.Node == "" {
		return usagef("agent install: --node is missing: want the node that the machine is to be")
	}
	if f.binary == "" {
		if f.binary, err = os.Executable(); err != nil {
			return err
		}
	}
	if f.Binary, err = install.ReadBinary(f.binary); err != nil {
		return err
	}
	r, t, err := c.connect(ctx, &f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := install.Check(t, f.Spec); err != nil {
		return err
	}
	if f.dryRun {
		if t.Enrolled == "" {
			f.token = "made when it is done"
		}
		install.Install(t, f.Spec, f.token).Print(c.out)
		return nil
	}
	before, err := c.nodeStatus(ctx, f.Node)
	if err != nil {
		return err
	}
	token, err := c.enrolment(ctx, &f, t)
	if err != nil {
		return err
	}
	connected := func(ctx context.Context) error { return c.waitConnected(ctx, f, r, t, before) }
	if err := install.Install(t, f.Spec, token).Run(ctx, r, connected, func(s string) { c.say("  %s", s) }); err != nil {
		return err
	}
	if token != "" {
		if _, err := r.Run(ctx, install.Tidy(f.Spec), nil); err != nil {
			return fmt.Errorf("remove the token, which is used up: %w", err)
		}
	}
	return c.tellInstalled(ctx, f, t)
}

// enrolment gives the token that the machine enrols with; none if it is enrolled.
func (c *console) enrolment(ctx context.Context, f *installFlags, t install.Target) (string, error) {
	switch {
	case t.Enrolled != "":
		return "", nil
	case f.token != "" && f.controllers == "":
		return "", usagef("agent install: --token needs --controllers")
	case f.token != "":
		return f.token, nil
	}
	cl, err := c.client()
	if err != nil {
		return "", err
	}
	var reply api.TokenReply
	if err := cl.Call(ctx, http.MethodPost, "/v1/tokens", client.Query{"tenant": c.tenant}, "", api.TokenRequest{Node: f.Node, Tenant: c.tenant}, &reply); err != nil {
		return "", fmt.Errorf("make the node's token: %w", err)
	}
	if len(f.Settings.Controllers) == 0 {
		f.Settings.Controllers = reply.Controllers
	}
	return reply.Token, nil
}

// nodeStatus as the controllers have it; the zero value for a node that is not there yet.
func (c *console) nodeStatus(ctx context.Context, name string) (api.NodeStatus, error) {
	cl, err := c.client()
	if err != nil {
		return api.NodeStatus{}, err
	}
	o, err := cl.Get(ctx, api.KindNode, c.tenant, name)
	var refusal *api.Error
	if errors.As(err, &refusal) && refusal.Code == api.CodeNotFound {
		return api.NodeStatus{}, nil
	}
	if err != nil {
		return api.NodeStatus{}, err
	}
	return o.(*api.Node).Status, nil
}

// waitConnected waits for a session that is newer than the one before. What the agent said goes into the error.
func (c *console) waitConnected(ctx context.Context, f installFlags, r install.Runner, t install.Target, before api.NodeStatus) error {
	c.say("  wait until the node is connected")
	ctx, cancel := context.WithTimeoutCause(ctx, f.wait, fmt.Errorf("%s is not connected after %s", f.Node, f.wait))
	defer cancel()
	for {
		now, err := c.nodeStatus(ctx, f.Node)
		if err == nil && now.Connected && !now.Since.Equal(before.Since) {
			return nil
		}
		select {
		case <-ctx.Done():
			why := context.Cause(ctx)
			ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if said, err := r.Run(ask, install.Said(t, f.Spec), nil); err == nil && strings.TrimSpace(said) != "" {
				why = fmt.Errorf("%w; its agent said last:\n%s", why, strings.TrimSpace(said))
			}
			return why
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (c *console) tellInstalled(ctx context.Context, f installFlags, t install.Target) error {
	now, err := c.nodeStatus(ctx, f.Node)
	if err != nil {
		return err
	}
	out := installed{Node: f.Node, Host: f.host, Action: "installed", Version: now.Version, Previous: t.Version, Init: t.Init(f.Init)}
	if t.Sum != "" {
		out.Action = "upgraded"
		if t.Sum == f.Binary.Sum {
			out.Action = "restarted"
		}
	}
	if c.json {
		return c.printJSON(out)
	}
	was := ""
	if t.Version != "" {
		was = " (was " + t.Version + ")"
	}
	c.print("node %s %s: connected, version %s%s, started by %s", out.Node, out.Action, out.Version, was, map[install.Init]string{
		install.Systemd: "systemd, at boot too", install.None: "this command, until the machine stops"}[out.Init])
	return nil
}

func (c *console) uninstallAgent(ctx context.Context, f installFlags, purge, force bool) error {
	r, t, err := c.connect(ctx, &f)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := install.CheckUninstall(t, force); err != nil {
		return err
	}
	plan := install.Uninstall(t, f.Spec, purge, force)
	if f.dryRun {
		plan.Print(c.out)
		return nil
	}
	if err := plan.Run(ctx, r, nil, func(s string) { c.say("  %s", s) }); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(installed{Node: t.Enrolled, Host: f.host, Action: "uninstalled", Previous: t.Version, Init: t.Init(f.Init)})
	}
	c.print("agent uninstalled; %s", map[bool]string{true: "its directory is gone", false: "its directory stays"}[purge])
	return nil
}
