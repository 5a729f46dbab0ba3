package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func jobsVerb(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "Show, follow, cancel, retry and complete jobs",
		Long: `A job is one durable run of steps towards an assignment. Whoever leads takes it further, so a job outlives the
controller that began it. It ends Succeeded, Superseded (a newer assignment took over), Cancelled (its message says what
holds) or Blocked (its message says why; it is retried).`,
	}
	cmd.AddCommand(jobsListVerb(c), jobsShowVerb(c), jobsAskVerb(c, "cancel", "Stop a running job at its next step boundary"),
		jobsAskVerb(c, "retry", "Try a job again that is Blocked or was Cancelled"), jobsCompleteVerb(c))
	return cmd
}

func jobsListVerb(c *console) *cobra.Command {
	var group string
	limit := 50
	cmd := &cobra.Command{
		Use:         "list",
		Annotations: everyTenant,
		Short:       "List jobs, oldest first",
		Args:        args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usagef("--limit %d: want 0 (all) or more", limit)
			}
			about, err := regarding(group)
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			objs, err := cl.List(cmd.Context(), api.KindJob, "")
			if err != nil {
				return err
			}
			objs = last(jobsOf(objs, about), limit)
			if c.json {
				return c.printJSON(map[string]any{"items": objs})
			}
			if len(objs) == 0 {
				c.say("There are no jobs%s.", c.inTenant())
				return nil
			}
			c.objectTable(api.KindJob, objs).write(c.out, "")
			return nil
		},
	}
	cmd.Flags().StringVar(&group, "for", "", "only those of a group, a machine or a plan, or of KIND/NAME")
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most so many, the newest; 0 means all")
	return cmd
}

// jobsOf gives the jobs of some subjects, in the order they were made.
func jobsOf(objs []api.Object, about func(api.Ref) bool) []api.Object {
	out := []api.Object{}
	for _, o := range objs {
		if j, ok := o.(*api.Job); ok && about(j.Spec.Subject) {
			out = append(out, o)
		}
	}
	return out
}

func jobsShowVerb(c *console) *cobra.Command {
	var followIt bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a job's steps and timeline",
		Long: `Show a job's steps and timeline. With --follow the timeline is shown as it grows, on standard error, until the job
ends; the exit code is then 1 if it did not succeed.`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			j, err := cl.Job(cmd.Context(), "", given[0])
			if err != nil {
				return err
			}
			if followIt {
				if j, err = c.followJob(cmd.Context(), cl, given[0]); err != nil {
					return err
				}
			}
			if c.json {
				err = c.printJSON(j)
			} else {
				c.printJob(j)
			}
			if err == nil && followIt {
				err = jobOutcome(j)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&followIt, "follow", false, "wait until the job ends and show its timeline meanwhile")
	return cmd
}

func jobsAskVerb(c *console, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  args("NAME"),
		RunE: func(cmd *cobra.Command, given []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			var q api.Request
			if err := cl.Call(cmd.Context(), http.MethodPost, client.Path(api.KindJob, given[0])+"/"+verb, nil, "", nil, &q); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(q)
			}
			c.print("Asked the leader to %s job %s.", verb, given[0])
			c.say("See what comes of it: understudy jobs show %s, understudy events", given[0])
			return nil
		},
	}
}

func jobsCompleteVerb(c *console) *cobra.Command {
	var q api.StepCompletion
	cmd := &cobra.Command{
		Use:   "complete JOB STEP",
		Short: "Tell a recovery plan's job that a person did what a manual step waits for",
		Long: `Tell a recovery plan's job that a person did what a manual step waits for, or with --failed that it could not be done. The job
goes on at once; a step that could not be done blocks it unless it is optional. understudy jobs show names the steps that wait.`,
		Example: `  understudy jobs complete shop-4p before:boot-2:cables --note "patched by Ann"`,
		Args:    args("JOB", "STEP"),
		RunE: func(cmd *cobra.Command, given []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			q.Step = given[1]
			var answer api.Request
			if err := cl.Call(cmd.Context(), http.MethodPost, client.Path(api.KindJob, given[0])+"/complete", nil, "", q, &answer); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(answer)
			}
			outcome := "done"
			if q.Failed {
				outcome = "not done"
			}
			c.print("Told the leader that step %s of job %s is %s.", q.Step, given[0], outcome)
			return nil
		},
	}
	cmd.Flags().StringVar(&q.Note, "note", "", "for the record; at most 4096 bytes")
	cmd.Flags().BoolVar(&q.Failed, "failed", false, "it could not be done")
	return cmd
}

// errJob tells that a job did not end as it was meant to.
type errJob struct{ j *api.Job }

func (e *errJob) Error() string {
	return fmt.Sprintf("job %s: %s: %s", e.j.Metadata.Name, e.j.Status.Phase, orDash(e.j.Status.Message))
}

// jobOutcome is an error for a job that has ended without success.
func jobOutcome(j *api.Job) error {
	if !j.Status.Phase.Ended() || j.Status.Phase == api.Succeeded {
		return nil
	}
	return &errJob{j}
}
