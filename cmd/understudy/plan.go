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
	var to, file string
	cmd := &cobra.Command{
		Use:   "plan GROUP | -f FILE",
		Short: "Show what a move would do, step by step, and how long it takes",
		Long: `Show what a move would do, step by step, and how long each step and the whole take. Nothing is changed.

Steps run side by side where they can; the whole takes as long as the longest path through them, marked "*". With -f the
groups of a file are planned as if they had been applied.`,
		Example: `  understudy plan dmz
  understudy plan dmz --to nva2
  understudy import ha-nva config.json | understudy plan -f -`,
		Args: args("[GROUP]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			plans, err := c.plans(cmd.Context(), given, file, to)
			if err != nil {
				return err
			}
			return c.printPlans(plans, file != "")
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "member to move to (default: the first that is not active)")
	cmd.Flags().StringVarP(&file, "file", "f", "", `file with resources that need not be applied yet, "-" for standard input`)
	return cmd
}

// planRequest is the body of POST /v1/plan.
type planRequest struct {
	Items []api.Object `json:"items"`
	To    string       `json:"to,omitempty"`
}

func (c *console) plans(ctx context.Context, given []string, file, to string) ([]api.Plan, error) {
	if (len(given) == 0) == (file == "") {
		return nil, usagef("plan: want a GROUP, or -f FILE")
	}
	if file == "" {
		cl, err := c.client()
		if err != nil {
			return nil, err
		}
		p, err := groupPlan(ctx, cl, given[0], to)
		return []api.Plan{p}, err
	}
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
