package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func planVerb(c *console) *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan NAME | -f FILE",
		Short: "Show what a move would do, step by step, and how long it takes",
		Long: `Show what a move of a group, or an operation of a machine or a recovery plan, would do, step by step, and how long each step and
the whole take. Nothing is changed. NAME is group/NAME, machine/NAME, plan/NAME, or the name alone if one of them has it.

Steps run side by side where they can; the whole takes as long as the longest path through them, marked "*". With -f the
groups of a file are planned as if they had been applied.`,
		Example: `  understudy plan dmz
  understudy plan dmz --to nva2
  understudy plan machine/web --op Failover --shutdown-source
  understudy import ha-nva config.json | understudy plan -f -`,
		Args: args("[NAME]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			plans, err := c.plans(cmd, given, f)
			if err != nil {
				return err
			}
			return c.printPlans(plans, f.file != "")
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "member of a group to move to (default: the first that is not active)")
	flags.StringVarP(&f.file, "file", "f", "", `file with resources that need not be applied yet, "-" for standard input`)
	flags.StringVar(&f.op, "op", "", "operation of a machine or a plan (default: Failover)")
	flags.StringVar(&f.point, "point", "", "as of the operation")
	flags.BoolVar(&f.shutdown, "shutdown-source", false, "as of the operation")
	return cmd
}

type planFlags struct {
	to, file, op, point string
	shutdown            bool
}

// planRequest is the body of POST /v1/plan.
type planRequest struct {
	Items []api.Object `json:"items"`
	To    string       `json:"to,omitempty"`
}

func (c *console) plans(cmd *cobra.Command, given []string, f planFlags) ([]api.Plan, error) {
	if (len(given) == 0) == (f.file == "") {
		return nil, usagef("plan: want a NAME, or -f FILE")
	}
	if f.file != "" {
		if flag := foreignFlag(cmd, true, "", "op", "point", "shutdown-source"); flag != "" {
			return nil, usagef("plan: --%s is not for files", flag)
		}
		return c.filePlans(cmd.Context(), f.file, f.to)
	}
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	s, err := subject(cmd.Context(), cl, given[0], api.KindApplianceGroup, api.KindProtectedMachine, api.KindRecoveryPlan)
	if err != nil {
		return nil, err
	}
	ref := s.Head().Ref()
	if flag := foreignFlag(cmd, ref.Kind == api.KindApplianceGroup, "to", "op", "point", "shutdown-source"); flag != "" {
		return nil, usagef("plan: --%s is not for %s; see `understudy plan --help`", flag, subjectWord(ref))
	}
	if ref.Kind == api.KindApplianceGroup {
		p, err := groupPlan(cmd.Context(), cl, ref.Name, f.to)
		return []api.Plan{p}, err
	}
	o := operation{operationVerb: verbOf(api.OpFailover), at: f.point, shutdownSource: f.shutdown}
	if f.op != "" {
		if o.operationVerb, err = operationOf(f.op); err != nil {
			return nil, err
		}
	}
	body, err := o.body()
	if err != nil {
		return nil, err
	}
	p, err := operationPlan(cmd.Context(), cl, ref, body)
	return []api.Plan{p}, err
}

func (c *console) filePlans(ctx context.Context, file, to string) ([]api.Plan, error) {
	docs, err := c.readManifest(file)
	if err != nil {
		return nil, err
	}
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	sortForApply(docs)
	q := planRequest{To: to}
	for _, d := range docs {
		q.Items = append(q.Items, d.object)
	}
	var answer struct{ Items []api.Plan }
	if err := cl.Call(ctx, http.MethodPost, "/v1/plan", nil, "", q, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(answer.Items) == 0 {
		return nil, usagef("%s holds no ApplianceGroup: there is nothing to plan", file)
	}
	return answer.Items, nil
}

func groupPlan(ctx context.Context, cl *client.Client, group, to string) (p api.Plan, err error) {
	err = cl.Call(ctx, http.MethodGet, client.Path(api.KindApplianceGroup, group)+"/plan", client.Query{"to": to}, "", nil, &p)
	return p, err
}

func (c *console) printPlans(plans []api.Plan, many bool) error {
	if c.json {
		var views []planView
		for _, p := range plans {
			views = append(views, viewPlan(p))
		}
		if !many {
			return c.printJSON(views[0])
		}
		return c.printJSON(map[string]any{"items": views})
	}
	for i, p := range plans {
		if i > 0 {
			c.print("")
		}
		c.printPlan(p)
	}
	return nil
}
