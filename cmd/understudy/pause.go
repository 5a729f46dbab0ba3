package main

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func pauseVerb(c *console) *cobra.Command {
	return pausing(c, api.OpPause, "Stop automatic moves of a group, or the replication of a machine",
		`Stop automatic moves and drift repair of a group until it is resumed; probing goes on, and understudy failover still moves.
Of a machine, stop replication: blocks that are written are remembered, and there are no new recovery points until it is
resumed.`,
		"%s is paused: nothing moves by itself. Go on with: understudy resume %s")
}

func resumeVerb(c *console) *cobra.Command {
	return pausing(c, api.OpResume, "Let a paused group move by itself again, or ship a paused machine again",
		`Let a paused group move by itself again; if its active member is down, it may fail over at once. Of a machine, ship again, first
what was written meanwhile.`,
		"%s is resumed: it moves by itself again. See it with: understudy describe group %s")
}

// pausing makes a verb that groups do at once and machines by a job.
func pausing(c *console, op api.OperationKind, short, long, done string) *cobra.Command {
	o := operation{asking: asking{c: c}, operationVerb: verbOf(op)}
	cmd := &cobra.Command{
		Use:   o.name + " NAME",
		Short: short,
		Long: long + "\n\nNAME is group/NAME, machine/NAME, or the name alone if one of them has it. The flags but --dry-run are for machines.\n\n" +
			"With --wait the timeline is shown as it grows, on standard error, and the exit code is 1 if the job did not succeed.",
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) (err error) {
			if o.cl, err = c.client(); err != nil {
				return err
			}
			s, err := subject(cmd.Context(), o.cl, given[0], api.KindApplianceGroup, api.KindProtectedMachine)
			if err != nil {
				return err
			}
			if s.Head().Kind != api.KindApplianceGroup {
				return o.run(cmd.Context(), s)
			}
			for _, name := range []string{"wait", "timeout", "notes"} {
				if cmd.Flags().Changed(name) {
					return usagef("%s: --%s is not for %s: a group is paused and resumed at once", o.name, name, subjectWord(s.Head().Ref()))
				}
			}
			return o.pauseGroup(cmd.Context(), s.Head().Ref(), done)
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

func (o *operation) pauseGroup(ctx context.Context, ref api.Ref, done string) error {
	q := client.Query{}
	if o.dryRun {
		q["dryRun"] = "1"
	}
	var g api.ApplianceGroup
	if err := o.cl.Call(ctx, http.MethodPost, client.Path(ref.Kind, ref.Name)+"/"+o.name, q, "", nil, &g); err != nil {
		return err
	}
	switch {
	case o.c.json:
		return o.c.printJSON(&g)
	case o.dryRun:
		o.c.say("This was a dry run: nothing has changed.")
	default:
		o.c.print(done, ref.Name, ref.Name)
	}
	return nil
}
