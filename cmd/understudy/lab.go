package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/lab"
)

// errLabFailed makes the process fail after a result has been printed that says why.
var errLabFailed = errors.New("the scenario failed, see its checks")

func labVerb(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Build an architecture in network namespaces, break it, and see what a client sees",
		Long: `Build an architecture in network namespaces of this host, with real processes, send traffic through it, inject
faults and report what a client saw. Needs root. Everything a run made is gone after it.`,
	}
	cmd.AddCommand(labListVerb(c), labRunVerb(c), labUpVerb(c), labDownVerb(c),
		labTrafficVerb(c), labApplianceVerb(c), labDeskVerb(c))
	return cmd
}

func labListVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the scenarios and their faults", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			if c.json {
				return c.printJSON(map[string]any{"scenarios": lab.Scenarios()})
			}
			for _, s := range lab.Scenarios() {
				c.print("%s\n  %s", c.shade(styleBold, s.Name), s.About)
				for _, f := range s.Faults {
					c.print("  --fault %-20s %s", f.Name, f.About)
				}
			}
			return nil
		},
	}
}

func labRunVerb(c *console) *cobra.Command {
	var o lab.Options
	cmd := &cobra.Command{
		Use: "run SCENARIO", Short: "Run a scenario and report what a client saw", Args: args("SCENARIO"),
		Example: `  understudy lab run nva-switch
  understudy lab run nva-switch --fault node --rounds 10 --effects lease --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Progress = c.err
			r, err := lab.Run(cmd.Context(), args[0], o)
			if err != nil && len(r.Figures) == 0 {
				return err
			}
			print := func() error { return r.Print(c.out) }
			if c.json {
				print = func() error { return c.printJSON(r) }
			}
			if err := errors.Join(err, print()); err != nil {
				return err
			}
			if !r.Passed {
				return errLabFailed
			}
			return nil
		},
	}
	f := cmd.Flags()
	labSiteFlags(cmd, &o)
	f.StringSliceVar(&o.Faults, "fault", nil, "fault to inject, see lab list; all for every one (default planned,node,link,process)")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds: of each fault (default 3), moves of planned (100), drills (3), sites lost in recovery (1), kills of path-kill (20), writes of path-oracle (2000)")
	f.DurationVar(&o.Gone, "gone", 0, "how long control-plane-gone, and a line cut in path-kill, last (default 20s)")
	f.DurationVar(&o.Duration, "duration", 0, "how long a soak, and the load of postgres, last (default 2m); path-kill and path-oracle stop after it")
	f.StringVar(&o.From, "from", "", "another release's program, which upgrade starts from; see scripts/previous.sh")
	f.BoolVar(&o.NoPeers, "no-peers", false, "leave the peers out")
	f.BoolVar(&o.NoControl, "no-control", false, "leave the control runs out; the outages then prove nothing")
	return cmd
}

func labSiteFlags(cmd *cobra.Command, o *lab.Options) {
	f := cmd.Flags()
	f.StringVar(&o.Store, "store", "etcd", "where the controllers keep their state: etcd or zookeeper")
	f.StringVar(&o.Effects, "effects", "fabric", "what moves: fabric (routes at the routers) or lease (addresses at the appliances)")
	f.StringVar(&o.Profile, "profile", "fast", "the group's profile: fast or balanced")
	f.StringVar(&o.LogDir, "log-dir", "", "keep the log of every process here (default: they go with the run)")
}

func labUpVerb(c *console) *cobra.Command {
	var o lab.Options
	cmd := &cobra.Command{
		Use: "up", Short: "Build the appliance pair with a running cluster and leave it standing", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = c.err
			site, err := lab.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(site)
			}
			c.print("%s", site.Help())
			return nil
		},
	}
	labSiteFlags(cmd, &o)
	return cmd
}

func labDownVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Remove what lab up left standing and what killed runs left behind", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			removed, err := lab.Down(true)
			if c.json {
				return errors.Join(err, c.printJSON(map[string]any{"removed": append([]string{}, removed...)}))
			}
			if len(removed) > 0 {
				c.print("removed %s", strings.Join(removed, ", "))
			}
			return err
		},
	}
}

// The hidden verbs are the processes that the lab starts on its machines.

func labTrafficVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use: "traffic", Hidden: true, Args: args(),
		Short: "Send and count the flows that standard input names",
		RunE:  func(*cobra.Command, []string) error { return lab.TrafficMain(c.in, c.out) },
	}
}

func labApplianceVerb(*console) *cobra.Command {
	var listen string
	var userSpace bool
	cmd := &cobra.Command{
		Use: "appliance", Hidden: true, Args: args(),
		Short: "Stand for an appliance: answer the health probe, and forward",
		RunE:  func(cmd *cobra.Command, _ []string) error { return lab.ApplianceMain(cmd.Context(), listen, userSpace) },
	}
	cmd.Flags().StringVar(&listen, "listen", "", "address of the health endpoint")
	cmd.Flags().BoolVar(&userSpace, "user-space", false, "forward in user space")
	return cmd
}

func labDeskVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use: "desk", Hidden: true, Args: args(),
		Short: "Make the API calls that standard input names",
		RunE:  func(cmd *cobra.Command, _ []string) error { return lab.DeskMain(cmd.Context(), c.config, c.in, c.out) },
	}
}
