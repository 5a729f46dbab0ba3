package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/keeper"
	"github.com/understudy-ha/understudy/engines/processserver"
	"github.com/understudy-ha/understudy/engines/protect"
	"github.com/understudy-ha/understudy/engines/site"
)

// engineVerb is what agents start; people do not, so help does not list it.
func engineVerb(c *console) *cobra.Command {
	var dir, logLevel string
	cmd := &cobra.Command{
		Use:    "engine",
		Short:  "Run one engine of an agent in its home directory",
		Long:   `Run one engine in the home that an agent has made for it. Agents start and adopt engines; people need this verb only to look for trouble.`,
		Hidden: true,
		Args:   args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usagef("--dir is missing: want the engine's home, made by an agent")
			}
			if err := startLog(c.err, logLevel); err != nil {
				return err
			}
			return runEngine(cmd.Context(), engines.Home(dir))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "home of the engine")
	cmd.Flags().StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// engineMakers names what each engine is made by.
func engineMakers() map[string]engines.Maker {
	return map[string]engines.Maker{
		api.EngineProtect:       protect.New,
		api.EngineProcessServer: processserver.New,
		api.EngineSite:          site.New,
		api.EngineKeeper:        keeper.New,
	}
}

func runEngine(ctx context.Context, home engines.Home) error {
	cfg, err := home.ReadConfig()
	if err != nil {
		return err
	}
	maker := engineMakers()[cfg.Section.Engine]
	if maker == nil {
		return fmt.Errorf("%s: engine %q: this program has none of that name that runs by itself", home, cfg.Section.Engine)
	}
	return engines.Run(ctx, home, version, maker)
}
