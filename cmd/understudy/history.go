package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
)

func historyVerb(c *console) *cobra.Command {
	limit := 50
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "Show who was active, when and why",
		Long: `Show who was active, when and why: the jobs of a group, a machine or a recovery plan, oldest first. Jobs are kept for 90 days
unless the controllers are set otherwise.`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if limit < 0 {
				return usagef("--limit %d: want 0 (all) or more", limit)
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			s, err := subject(cmd.Context(), cl, given[0], api.KindApplianceGroup, api.KindProtectedMachine, api.KindRecoveryPlan)
			if err != nil {
				return err
			}
			ref := s.Head().Ref()
			objs, err := cl.List(cmd.Context(), api.KindJob, "")
			if err != nil {
				return err
			}
			jobs := last(jobsOf(objs, func(r api.Ref) bool { return r == ref }), limit)
			if c.json {
				return c.printJSON(map[string]any{"items": jobs})
			}
			if len(jobs) == 0 {
				c.say("%s has no history yet.", ref.Name)
				return nil
			}
			c.historyTable(jobs).write(c.out, "")
			return nil
		},
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most so many, the newest; 0 means all")
	return cmd
}

func (c *console) historyTable(jobs []api.Object) *table {
	t := newTable("WHEN", "GENERATION", "KIND", "MOVE", "PHASE", "TOOK", "BY", "REASON")
	t.shade = c.shadeCell
	now := time.Now()
	for _, o := range jobs {
		j := o.(*api.Job)
		by := j.Spec.RequestedBy
		if by == "" {
			by = "Understudy"
		}
		t.add(clockTime(j.Metadata.Created), fmt.Sprint(j.Spec.Generation), string(j.Spec.Kind), jobMove(j),
			string(j.Status.Phase), jobTook(now, j), by, j.Spec.Reason)
	}
	return t
}
