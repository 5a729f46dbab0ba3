package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/agent"
	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/wire"
)

// agentFlags are what an agent is told; the rest it learns when it enrols.
type agentFlags struct {
	agent.Config
	controllers, tokenFile, logLevel string
}

func agentVerb(c *console) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of a host, router or appliance, or install it",
		Long: `Run the agent of this host until it is interrupted; needs root. "understudy agent install" does so for good, here or on another machine.

The first start needs --controllers and --token, which "understudy token create --node NAME" prints. Stopping, killing
or upgrading an agent leaves the routes it made in place; addresses that it holds under a grant go when the grant ends.

/healthz answers 200 when the agent has taken up what its directory says; /active answers 200 only while this node is also
active, which is what a load balancer's probe wants; /active/ApplianceGroup/TENANT/NAME does so for one group.`,
		Example: `  understudy agent --controllers 10.0.9.1:7443,10.0.9.2:7443 --token TOKEN
  understudy agent --peer-listen 10.0.9.4:9444`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.agent(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Dir, "dir", "", "directory of this agent (default: agent in $UNDERSTUDY_DIR, /var/lib/understudy for root, or ~/.understudy)")
	flags.StringVar(&f.controllers, "controllers", "", "HOST:PORT of every controller's cluster endpoint, with commas between them (default: those named at enrolment)")
	flags.StringVar(&f.Token, "token", "", "one-time token of the first start; ignored later")
	flags.StringVar(&f.tokenFile, "token-file", "", "file that holds it, in place of --token; one that is not there is none")
	flags.StringVar(&f.HealthListen, "health-listen", "", "HOST:PORT that answers /healthz and /active (default: none)")
	flags.StringVar(&f.PeerListen, "peer-listen", "", "HOST:PORT where other candidates ask for promises, for lease effects (default: none)")
	flags.StringVar(&f.PeerAddress, "peer-address", "", "HOST:PORT under which others reach --peer-listen (default: the same)")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	cmd.AddCommand(agentInstallVerb(c), agentUninstallVerb(c), agentDiscoverVerb(c))
	return cmd
}

func (c *console) agent(ctx context.Context, f agentFlags) error {
	if err := startLog(c.err, f.logLevel); err != nil {
		return err
	}
	cfg := f.Config
	cfg.Version = version
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(defaultDir(), "agent")
	}
	if f.controllers != "" {
		cfg.Controllers = strings.Split(f.controllers, ",")
	}
	if err := readToken(&cfg, f.tokenFile); err != nil {
		return err
	}
	if err := checkAgent(cfg); err != nil {
		return err
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil { // engines are started elsewhere, and their sockets named by it
		return err
	}
	err = agent.Run(ctx, cfg)
	if errors.Is(err, agent.ErrNotEnrolled) {
		return usagef("%v", err)
	}
	return err
}

// readToken takes the token from its file, if one is named and there.
func readToken(cfg *agent.Config, path string) error {
	if path == "" {
		return nil
	}
	if cfg.Token != "" {
		return usagef("agent: --token and --token-file: want one of them")
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	cfg.Token = strings.TrimSpace(string(b))
	return err
}

// checkAgent refuses what cannot work, naming the flag.
func checkAgent(cfg agent.Config) error {
	var bad api.Invalid
	for _, a := range cfg.Controllers {
		hostPort(&bad, "--controllers", a)
	}
	for _, f := range [][2]string{{"--health-listen", cfg.HealthListen}, {"--peer-listen", cfg.PeerListen}, {"--peer-address", cfg.PeerAddress}} {
		if f[1] != "" {
			hostPort(&bad, f[0], f[1])
		}
	}
	if cfg.Token != "" {
		if _, _, err := wire.SplitToken(cfg.Token); err != nil {
			bad.Add("--token", "a text that is none", `one from "understudy token create --node NAME", whole: it ends in "." and 64 hexadecimal digits`)
		}
	}
	return bad.Err()
}

func hostPort(bad *api.Invalid, flag, text string) {
	if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
		bad.Add(flag, text, `HOST:PORT, like "10.0.9.1:7443"`)
	}
}
