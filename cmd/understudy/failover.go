package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func failoverVerb(c *console) *cobra.Command {
	o := operation{asking: asking{c: c}, operationVerb: verbOf(api.OpFailover)}
	to := ""
	cmd := &cobra.Command{
		Use:   "failover NAME",
		Short: "Run a machine or a recovery plan at the other site, or move a group to another member",
		Long: `Run a machine, or the machines of a recovery plan, at the recovery site from a recovery point; or move an appliance group's
addresses and routes to another member. NAME is group/NAME, machine/NAME, plan/NAME, or the name alone if one of them has it.

Of a group it is a planned move, which drains first if the group says so; the leader refuses a move onto a member that is not
known healthy. --to belongs to groups; --point, --shutdown-source and --notes to machines and plans. A machine's source that
does not answer holds nothing up.

` + waitHelp,
		Example: `  understudy failover dmz --to nva2 --dry-run
  understudy failover machine/web --point latestProcessed --wait
  understudy failover plan/shop --shutdown-source --wait`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) (err error) {
			if o.cl, err = c.client(); err != nil {
				return err
			}
			s, err := subject(cmd.Context(), o.cl, given[0], api.KindApplianceGroup, api.KindProtectedMachine, api.KindRecoveryPlan)
			if err != nil {
				return err
			}
			g, isGroup := s.(*api.ApplianceGroup)
			if flag := foreignFlag(cmd, isGroup, "to", "point", "shutdown-source", "notes"); flag != "" {
				return usagef("failover: --%s is not for %s; see `understudy failover --help`", flag, subjectWord(s.Head().Ref()))
			}
			if !isGroup {
				return o.run(cmd.Context(), s)
			}
			f := failover{asking: o.asking, group: g.Metadata.Name, to: to}
			return f.run(cmd.Context(), g)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "member of a group to move to (default: the first healthy one that is not active)")
	o.flags(cmd.Flags())
	return cmd
}

// foreignFlag names a flag that was given and belongs to others: those of groups come first, the others are for machines.
func foreignFlag(cmd *cobra.Command, group bool, ofGroups string, ofMachines ...string) string {
	foreign := []string{ofGroups}
	if group {
		foreign = ofMachines
	}
	for _, name := range foreign {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			return name
		}
	}
	return ""
}

// failover is one move of a group.
type failover struct {
	asking
	group, to string
}

func (f *failover) run(ctx context.Context, g *api.ApplianceGroup) error {
	if f.dryRun {
		return f.rehearse(ctx)
	}
	if f.onTerminal() {
		question, err := f.question(ctx, g)
		if err == nil {
			err = f.confirm(question)
		}
		if err != nil {
			return err
		}
	}
	if f.wait {
		j, err := f.await(ctx, g.Ref(), f.group+" is not moved", func(ctx context.Context) (api.Request, error) { return f.ask(ctx, "") })
		if err != nil {
			return err
		}
		return f.c.reportJob(j, fmt.Sprintf("%s is on %s: job %s took %s.", f.group, j.Spec.To, j.Metadata.Name, took(j)))
	}
	q, err := f.ask(ctx, "")
	if err != nil {
		return err
	}
	if f.c.json {
		return f.c.printJSON(q)
	}
	f.c.print("Asked the leader to move %s%s.", f.group, toWords(f.to))
	f.c.say("See what comes of it: understudy describe group %s", f.group)
	return nil
}

// ask leaves the request with the controllers.
func (f *failover) ask(ctx context.Context, dryRun string) (q api.Request, err error) {
	body := map[string]string{}
	if f.to != "" {
		body["to"] = f.to
	}
	err = f.cl.Call(ctx, http.MethodPost, client.Path(api.KindApplianceGroup, f.group)+"/failover", client.Query{"dryRun": dryRun}, "", body, &q)
	return q, err
}

func (f *failover) rehearse(ctx context.Context) error {
	if _, err := f.ask(ctx, "1"); err != nil {
		return err
	}
	p, err := groupPlan(ctx, f.cl, f.group, f.to)
	if err != nil {
		return err
	}
	return f.c.printDryRun(p)
}

// question is what people are asked before anything moves.
func (f *failover) question(ctx context.Context, g *api.ApplianceGroup) (string, error) {
	p, err := groupPlan(ctx, f.cl, f.group, f.to)
	if err != nil {
		return "", err
	}
	from, takes := orDash(activeOf(g)), seconds(p.Expected.D())
	if f.to == "" {
		return fmt.Sprintf("Move %s away from %s, in about %s?", f.group, from, takes), nil
	}
	return fmt.Sprintf("Move %s from %s to %s, in about %s?", f.group, from, f.to, takes), nil
}

// printDryRun shows what would have been done.
func (c *console) printDryRun(p api.Plan) error {
	if err := c.printPlans([]api.Plan{p}, false); err != nil {
		return err
	}
	c.say("This was a dry run: nothing has changed.")
	return nil
}

// reportJob tells how a job ended: done, or its error.
func (c *console) reportJob(j *api.Job, done string) error {
	if c.json {
		if err := c.printJSON(j); err != nil {
			return err
		}
		return jobOutcome(j)
	}
	if err := jobOutcome(j); err != nil {
		return err
	}
	c.print("%s", done)
	return nil
}

// took is how long a job that has ended took.
func took(j *api.Job) string { return seconds(j.Status.Ended.Sub(j.Status.Started)) }
