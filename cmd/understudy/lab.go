package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/lab"
)

// errLabFailed makes the process fail after a result has been printed that says why.
var errLabFailed = errors.New("the scenario failed, see its checks")

func labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Build an architecture in network namespaces, fail it, and see what a client sees",
		Long: `Build an architecture in network namespaces of this host, with real processes, send traffic through it, inject
faults and report what a client saw. Needs root. Everything a run made is gone after it.`,
	}
	cmd.AddCommand(labListCommand(), labRunCommand(), labUpCommand(), labDownCommand(),
		labTrafficCommand(), labApplianceCommand(), labDeskCommand())
	return cmd
}

func labListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the scenarios and their faults", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, s := range lab.Scenarios() {
				fmt.Fprintf(w, "%s\t%s\n", s.Name, s.About)
				for _, f := range s.Faults {
					fmt.Fprintf(w, "  --fault %s\t%s\n", f[0], f[1])
				}
			}
			return w.Flush()
		},
	}
}

func labRunCommand() *cobra.Command {
	var o lab.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use: "run SCENARIO", Short: "Run a scenario and report what a client saw", Args: cobra.ExactArgs(1),
		Example: "  understudy lab run nva-switch\n  understudy lab run nva-switch --fault node --rounds 10 --effects lease --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Progress = cmd.ErrOrStderr()
			if !asJSON {
				o.Progress = cmd.OutOrStdout()
			}
			r, err := lab.Run(cmd.Context(), args[0], o)
			if err != nil && len(r.Checks) == 0 {
				return err
			}
			if err := errors.Join(err, printLab(cmd.OutOrStdout(), r, asJSON)); err != nil {
				return err
			}
			if !r.Passed {
				return errLabFailed
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Store, "store", "etcd", "where the controllers keep their state: etcd or zookeeper")
	f.StringSliceVar(&o.Faults, "fault", nil, "fault to inject, see lab list; all for every one (default: planned, node, link, process)")
	f.StringVar(&o.Effects, "effects", "fabric", "what moves: fabric (routes at the routers) or lease (addresses at the appliances)")
	f.StringVar(&o.Profile, "profile", "fast", "the group's profile: fast or balanced")
	f.IntVar(&o.Rounds, "rounds", 0, "rounds of each fault, moves of planned (default: 3 and 100)")
	f.DurationVar(&o.Gone, "gone", 0, "how long control-plane-gone lasts (default: 20s)")
	f.DurationVar(&o.Duration, "duration", 0, "how long a soak lasts (default: 2m)")
	f.BoolVar(&o.NoPeers, "no-peers", false, "leave the peers out")
	f.BoolVar(&o.NoControl, "no-control", false, "leave the control runs out")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON, progress to standard error")
	return cmd
}

func printLab(w io.Writer, r lab.Result, asJSON bool) error {
	if !asJSON {
		return r.Print(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func labUpCommand() *cobra.Command {
	var o lab.Options
	cmd := &cobra.Command{
		Use: "up", Short: "Build the appliance pair with a running cluster and leave it standing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = cmd.OutOrStdout()
			return lab.Up(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Store, "store", "etcd", "where the controllers keep their state: etcd or zookeeper")
	f.StringVar(&o.Effects, "effects", "fabric", "what moves: fabric or lease")
	f.StringVar(&o.Profile, "profile", "fast", "the group's profile: fast or balanced")
	return cmd
}

func labDownCommand() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Remove what lab up left standing and what killed runs left behind", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			removed, err := lab.Down(true)
			if len(removed) > 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "removed", strings.Join(removed, ", "))
			}
			return err
		},
	}
}

// The hidden verbs are the processes that the lab starts on its machines.

func labTrafficCommand() *cobra.Command {
	return &cobra.Command{
		Use: "traffic", Hidden: true, Args: cobra.NoArgs,
		Short: "Send and count the flows that standard input names",
		RunE:  func(*cobra.Command, []string) error { return lab.TrafficMain(os.Stdin, os.Stdout) },
	}
}

func labApplianceCommand() *cobra.Command {
	var listen string
	var userSpace bool
	cmd := &cobra.Command{
		Use: "appliance", Hidden: true, Args: cobra.NoArgs,
		Short: "Stand for an appliance: answer the health probe, and forward",
		RunE:  func(cmd *cobra.Command, _ []string) error { return lab.ApplianceMain(cmd.Context(), listen, userSpace) },
	}
	cmd.Flags().StringVar(&listen, "listen", "", "address of the health endpoint")
	cmd.Flags().BoolVar(&userSpace, "user-space", false, "forward in user space")
	return cmd
}

func labDeskCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "desk", Hidden: true, Args: cobra.NoArgs,
		Short: "Make the API calls that standard input names",
		RunE:  func(cmd *cobra.Command, _ []string) error { return lab.DeskMain(cmd.Context(), config, os.Stdin, os.Stdout) },
	}
	cmd.Flags().StringVar(&config, "config", "", "client configuration")
	return cmd
}
