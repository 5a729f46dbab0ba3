package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func failoverVerb(c *console) *cobra.Command {
	var f failover
	cmd := &cobra.Command{
		Use:   "failover GROUP",
		Short: "Move a group's addresses and routes to another member",
		Long: `Move a group's addresses and routes to another member: a planned move, which drains first if the group says so.

The leader refuses a move onto a member that is not known healthy. On a terminal you are asked before anything moves;
--yes does not ask. With --wait the timeline is shown as it grows, on standard error, and the exit code is 1 if the
job did not succeed.`,
		Example: `  understudy failover dmz --wait
  understudy failover dmz --to nva2 --dry-run`,
		Args: args("GROUP"),
		RunE: func(cmd *cobra.Command, given []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			f.c, f.cl, f.group = c, cl, given[0]
			return f.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "member to move to (default: the first healthy one that is not active)")
	flags.BoolVar(&f.wait, "wait", false, "wait until the job has ended")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Minute, "with --wait: how long to wait; the job goes on without")
	flags.BoolVar(&f.dryRun, "dry-run", false, "check that the move would be accepted and show its plan; change nothing")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

// failover is one run of the verb.
type failover struct {
	c                 *console
	cl                *client.Client
	group, to         string
	wait, dryRun, yes bool
	timeout           time.Duration
}

func (f *failover) run(ctx context.Context) error {
	g, err := f.cl.Group(ctx, "", f.group)
	if err != nil {
		return err
	}
	if f.dryRun {
		return f.rehearse(ctx)
	}
	if err := f.confirm(ctx, g); err != nil {
		return err
	}
	if f.wait {
		return f.await(ctx, g)
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

func toWords(to string) string {
	if to == "" {
		return ""
	}
	return " to " + to
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
	if err := f.c.printPlans([]api.Plan{p}, false); err != nil {
		return err
	}
	f.c.say("This was a dry run: nothing has changed.")
	return nil
}

// confirm asks on a terminal. A program that runs us is not asked.
func (f *failover) confirm(ctx context.Context, g *api.ApplianceGroup) error {
	in, ok := f.c.in.(*os.File)
	if f.yes || f.c.json || !ok || !isTerminal(in) || !f.c.errTTY {
		return nil
	}
	p, err := groupPlan(ctx, f.cl, f.group, f.to)
	if err != nil {
		return err
	}
	if f.to == "" {
		fmt.Fprintf(f.c.err, "Move %s away from %s, in about %s? [y/N] ", f.group, orDash(activeOf(g)), seconds(p.Expected.D()))
	} else {
		fmt.Fprintf(f.c.err, "Move %s from %s to %s, in about %s? [y/N] ", f.group, orDash(activeOf(g)), f.to, seconds(p.Expected.D()))
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a == "y" || a == "yes" {
		return nil
	}
	return errors.Join(errors.New("nothing was moved"), err)
}

// awaitEvery is how often a group is looked at until the leader has taken the request.
const awaitEvery = 100 * time.Millisecond

// await asks, waits until the leader has answered, and then for the job.
func (f *failover) await(ctx context.Context, before *api.ApplianceGroup) error {
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, errStillRuns)
	defer cancel()
	old, err := f.refusals(ctx, before)
	if err != nil {
		return err
	}
	if _, err := f.ask(ctx, ""); err != nil {
		return err
	}
	name, err := f.awaitJob(ctx, before, old)
	if err == nil {
		f.c.say("Job %s moves %s to %s.", name.job, f.group, name.to)
		var j *api.Job
		if j, err = f.c.followJob(ctx, f.cl, name.job); err == nil {
			return f.report(j)
		}
	}
	if errors.Is(context.Cause(ctx), errStillRuns) {
		return fmt.Errorf("after %v: %w; see understudy describe group %s", f.timeout, errStillRuns, f.group)
	}
	return err
}

var errStillRuns = errors.New("the move has not ended; it goes on")

type jobTo struct{ job, to string }

func (f *failover) awaitJob(ctx context.Context, before *api.ApplianceGroup, old map[string]string) (jobTo, error) {
	generation := int64(0)
	if a := before.Status.Assignment; a != nil {
		generation = a.Generation
	}
	for looks := 1; ; looks++ {
		g, err := f.cl.Group(ctx, "", f.group)
		if err != nil {
			return jobTo{}, err
		}
		if a := g.Status.Assignment; a != nil && a.Generation > generation {
			return jobTo{a.Job, a.Active}, nil
		}
		if looks%5 == 0 {
			if err := f.refused(ctx, g, old); err != nil {
				return jobTo{}, err
			}
		}
		if looks == 50 {
			f.c.say("No leader has taken the request yet; understudy status shows who leads.")
		}
		if err := sleep(ctx, awaitEvery); err != nil {
			return jobTo{}, err
		}
	}
}

// refusals gives the events by which leaders turned requests of the group down, by name.
func (f *failover) refusals(ctx context.Context, g *api.ApplianceGroup) (map[string]string, error) {
	objs, err := f.cl.List(ctx, api.KindEvent, "")
	out := map[string]string{}
	for _, o := range objs {
		if e, ok := o.(*api.Event); ok && e.Code == "RequestRefused" && e.Regarding == g.Ref() {
			out[e.Metadata.Name] = e.Message
		}
	}
	return out, err
}

// refused tells of a refusal that is not among the old ones.
func (f *failover) refused(ctx context.Context, g *api.ApplianceGroup, old map[string]string) error {
	all, err := f.refusals(ctx, g)
	for name, why := range all {
		if _, known := old[name]; !known && err == nil {
			err = api.Errorf(api.CodeConflict, "%s is not moved: %s", f.group, why)
		}
	}
	return err
}

func (f *failover) report(j *api.Job) error {
	if f.c.json {
		if err := f.c.printJSON(j); err != nil {
			return err
		}
		return jobOutcome(j)
	}
	if err := jobOutcome(j); err != nil {
		return err
	}
	f.c.print("%s is on %s: job %s took %s.", f.group, j.Spec.To, j.Metadata.Name, seconds(j.Status.Ended.Sub(j.Status.Started)))
	return nil
}
