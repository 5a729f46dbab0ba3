package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/understudy-ha/understudy/api"
)

// operationVerb is one operation of machines, and of recovery plans where they have it, as a verb.
type operationVerb struct {
	op   api.OperationKind
	name string
	// short and long are its help.
	short, long string
	// point and shutdown tell which flags it has.
	point, shutdown bool
	// costs is what cannot be had back; people at a terminal are asked before. "" asks nothing.
	costs string
	// next is what people do when it has succeeded; %[1]s is the subject.
	next string
}

// operationVerbs lists all, in the order in which they follow each other in the life of a machine.
func operationVerbs() []operationVerb {
	return []operationVerb{
		{op: api.OpTestFailover, name: "test-failover", point: true, short: "Rehearse: boot a machine or a recovery plan from a point, in isolation",
			long: `Boot a machine, or the machines of a recovery plan, at the recovery site from a recovery point, in a network of their own.
Replication goes on, and the machine that runs is not touched. The drill stays up until it is cleaned up.`,
			next: "Look at it, then: understudy test-failover-cleanup %[1]s --notes TEXT"},
		{op: api.OpTestFailoverCleanup, name: "test-failover-cleanup", short: "Take a drill away and write down how it went",
			long: `Take a drill away and write down how it went: --notes are kept with the machine and in the audit. A drill counts only
when it has been cleaned up.`},
		{op: api.OpFailover, name: "failover", point: true, shutdown: true,
			costs: "it will run at its recovery site; what has not been shipped yet is not there",
			next:  "Commit it (understudy commit %[1]s), choose another point (understudy change-point %[1]s) or take it back (understudy cancel-failover %[1]s)."},
		{op: api.OpChangePoint, name: "change-point", point: true, short: "Run a machine that has failed over from another recovery point",
			long:  `Run a machine that has failed over, and is not committed, from another recovery point (understudy points lists them).`,
			costs: "what it has written since the failover is discarded",
			next:  "Commit it when it is right: understudy commit %[1]s"},
		{op: api.OpCommit, name: "commit", short: "Keep the point that a failover chose, for good",
			long:  `Keep the point that a failover or a failback chose, for good.`,
			costs: "no other point can be chosen any more, and there is no way back but the way home",
			next:  "Protect it again: understudy reprotect %[1]s (at the recovery site) or understudy re-enable %[1]s (at home)"},
		{op: api.OpCancelFailover, name: "cancel-failover", short: "Take a failover back that is not committed",
			long: `Take a failover back that is not committed, or still runs: the machine goes on where it was, with what it had there. A failback,
too: the machine goes on at the recovery site, and is shipped back anew by understudy reprotect.`,
			costs: "what it has written since the failover is given up"},
		{op: api.OpReprotect, name: "reprotect", short: "Ship a machine that runs at the recovery site back to where it came from",
			long: `Ship a machine that runs at the recovery site back to where it came from: only what differs, as checksums say. The source's
node must be there; its disks become read-only, and its writes that were never shipped are kept in a branch of their own.`,
			next: "When it is Protected: understudy failback %[1]s"},
		{op: api.OpFailback, name: "failback", point: true, shutdown: true, short: "Run a machine at its own site again",
			long:  `Run a machine, or the machines of a recovery plan, at their own site again, from a point of the way back.`,
			costs: "it will run at its own site; what has not been shipped back yet is not there",
			next:  "Commit it (understudy commit %[1]s), then protect it again (understudy re-enable %[1]s)."},
		{op: api.OpReEnable, name: "re-enable", short: "Protect a machine again after a failback, or after it was disabled",
			long: `Ship a machine at its own site to the recovery site again, after a committed failback or after its protection was disabled.
After a failback only what has changed since is shipped.`},
		{op: api.OpResync, name: "resync", short: "Compare a machine's disks with the vault and ship what differs",
			long: `Compare a machine's disks with the vault from end to end and ship what differs. There are no new recovery points until it is done.`},
		{op: api.OpDisable, name: "disable", short: "End the protection of a machine; its disks stay served",
			long:  `End the protection of a machine. Its disks stay served and nothing about it stops; it may then be deleted, or enabled again.`,
			costs: "no more recovery points are made"},
		{op: api.OpPause, name: "pause"},
		{op: api.OpResume, name: "resume"},
		{op: api.OpShutdown, name: "shutdown", short: "Shut a machine down where it runs, with a last recovery point",
			long: `Shut a machine's VM down where it runs, with a last recovery point. It stays down until understudy start.`, costs: "its service stops",
			next: "Start it again: understudy start %[1]s"},
		{op: api.OpStart, name: "start", short: "Start a machine that was shut down", long: `Start a machine's VM that was shut down, where it ran.`},
	}
}

// verbOf gives the entry of an operation.
func verbOf(op api.OperationKind) operationVerb {
	all := operationVerbs()
	return all[slices.IndexFunc(all, func(v operationVerb) bool { return v.op == op })]
}

// operationOf finds an operation by its name, in either spelling.
func operationOf(word string) (operationVerb, error) {
	var names []string
	for _, v := range operationVerbs() {
		if word == v.name || word == string(v.op) {
			return v, nil
		}
		names = append(names, string(v.op))
	}
	return operationVerb{}, usagef("--op %q: want one of %s", word, strings.Join(names, ", "))
}

// ofPlans tells whether recovery plans have the operation too.
func (v operationVerb) ofPlans() bool { return slices.Contains(api.PlanOperations(), v.op) }

// kinds that the operation may be asked of.
func (v operationVerb) kinds() []api.Kind {
	if v.ofPlans() {
		return []api.Kind{api.KindProtectedMachine, api.KindRecoveryPlan}
	}
	return []api.Kind{api.KindProtectedMachine}
}

const waitHelp = `On a terminal you are asked before anything that cannot be had back; --yes does not ask. With --wait the timeline is shown as
it grows, on standard error, and the exit code is 1 if the job did not succeed.`

// operationCommands are the verbs that only machines and plans have; failover, pause and resume have files of their own.
func operationCommands(c *console) []*cobra.Command {
	var out []*cobra.Command
	for _, v := range operationVerbs() {
		if v.short != "" {
			out = append(out, v.command(c))
		}
	}
	return out
}

func (v operationVerb) command(c *console) *cobra.Command {
	o := operation{asking: asking{c: c}, operationVerb: v}
	what := "NAME is a machine or a recovery plan: machine/NAME, plan/NAME, or the name alone if one of them has it."
	if !v.ofPlans() {
		what = "NAME is a machine: machine/NAME or the name alone."
	}
	cmd := &cobra.Command{Use: v.name + " NAME", Short: v.short, Long: v.long + "\n\n" + what + "\n\n" + waitHelp, Args: args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) (err error) {
			if o.cl, err = c.client(); err != nil {
				return err
			}
			s, err := subject(cmd.Context(), o.cl, given[0], v.kinds()...)
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), s)
		}}
	o.flags(cmd.Flags())
	return cmd
}

func (o *operation) flags(flags *pflag.FlagSet) {
	if o.operationVerb.point {
		flags.StringVar(&o.at, "point", "", "latest, latestProcessed, latestAppConsistent, a point's id, or a time: the newest at or before it (default: latest)")
	}
	if o.shutdown {
		flags.BoolVar(&o.shutdownSource, "shutdown-source", false, "first shut the machine down where it runs, as well as that goes, so that nothing is lost")
	}
	flags.StringVar(&o.notes, "notes", "", "for the record; at most 4096 bytes")
	o.asking.flags(flags)
}
