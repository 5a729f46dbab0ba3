package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/agent"
)

// agentFlags are what an agent is told; the rest it learns when it enrols.
type agentFlags struct {
	agent.Config
	controllers, logLevel string
}

func agentVerb(c *console) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of a router or appliance",
		Long: `Run the agent of this host until it is interrupted; needs root.

The first start needs --controllers and --token, which "understudy token create --node NAME" prints. Stopping, killing
or upgrading an agent leaves the routes it made in place; addresses that it holds under a grant go when the grant ends.`,
		Example: `  understudy agent --controllers 10.0.9.1:7443,10.0.9.2:7443 --token TOKEN
  understudy agent --peer-listen 10.0.9.4:9444`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.agent(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Dir, "dir", "", "directory of this agent (default: agent in $UNDERSTUDY_DIR, /var/lib/understudy for root, or ~/.understudy)")
	flags.StringVar(&f.controllers, "controllers", "", "HOST:PORT of every controller's cluster endpoint, with commas between them (default: those named at enrolment)")
	flags.StringVar(&f.Token, "token", "", "one-time token of the first start; ignored later")
	flags.StringVar(&f.HealthListen, "health-listen", "", "HOST:PORT that answers /healthz and /active (default: none)")
	flags.StringVar(&f.PeerListen, "peer-listen", "", "HOST:PORT where other candidates ask for promises, for lease effects (default: none)")
	flags.StringVar(&f.PeerAddress, "peer-address", "", "HOST:PORT under which others reach --peer-listen (default: the same)")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
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
	err := agent.Run(ctx, cfg)
	if errors.Is(err, agent.ErrNotEnrolled) {
		return usagef("%v", err)
	}
	return err
}

// runAgent checks what the flags say, so that a refusal names the flag, and runs.
func runAgent(ctx context.Context, cfg agent.Config) error {
	var bad api.Invalid
	for _, a := range cfg.Controllers {
		hostPort(&bad, "--controllers", a)
	}
	for flag, a := range map[string]string{"--health-listen": cfg.HealthListen, "--peer-listen": cfg.PeerListen, "--peer-address": cfg.PeerAddress} {
		if a != "" {
			hostPort(&bad, flag, a)
		}
	}
	if cfg.Token != "" {
		if _, _, err := wire.SplitToken(cfg.Token); err != nil {
			bad.Add("--token", "a text that is none", `one from "understudy token create --node NAME", whole: it ends in "." and 64 hexadecimal digits`)
		}
	}
	if err := bad.Err(); err != nil {
		return err
	}
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(defaultDir(), "agent")
	}
	err := agent.Run(ctx, cfg)
	if errors.Is(err, agent.ErrNotEnrolled) {
		return &usageError{err.Error()}
	}
	return err
}

func hostPort(bad *api.Invalid, flag, text string) {
	if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
		bad.Add(flag, text, `HOST:PORT, like "10.0.9.1:7443"`)
	}
}
