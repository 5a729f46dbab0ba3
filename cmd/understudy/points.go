package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func pointsVerb(c *console) *cobra.Command {
	limit := 50
	cmd := &cobra.Command{
		Use:   "points MACHINE",
		Short: "Show the recovery points that a machine could be recovered from now",
		Long: `Show the recovery points that a machine could be recovered from now, newest first, as the vault of its other side says: by
their id or by a time they are chosen with --point.`,
		Example: `  understudy points web
  understudy test-failover web --point 2026-03-01T12:00:00Z`,
		Args: args("MACHINE"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if limit < 0 {
				return usagef("--limit %d: want 0 (all) or more", limit)
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			m, err := subject(cmd.Context(), cl, given[0], api.KindProtectedMachine)
			if err != nil {
				return err
			}
			list, err := machinePoints(cmd.Context(), cl, m.Head().Ref())
			if err != nil {
				return err
			}
			if limit > 0 && len(list.Items) > limit {
				list.Items = list.Items[:limit]
			}
			if c.json {
				return c.printJSON(list)
			}
			c.printPoints(list)
			return nil
		},
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most so many, the newest; 0 means all")
	return cmd
}

func machinePoints(ctx context.Context, cl *client.Client, ref api.Ref) (list api.PointList, err error) {
	err = cl.Call(ctx, http.MethodGet, client.Path(ref.Kind, ref.Name)+"/points", client.Query{"tenant": ref.Tenant}, "", nil, &list)
	return list, err
}

func (c *console) printPoints(list api.PointList) {
	if len(list.Items) == 0 {
		c.say("There are no recovery points of stream %s in vault %s.", list.Stream, list.Vault)
		return
	}
	t := newTable("ID", "TIME", "AGE", "CONSISTENCY", "POSITION", "TAG")
	now := time.Now()
	for _, p := range list.Items {
		t.add(p.ID, clockTime(p.At), age(now, p.At), string(p.Consistency), fmt.Sprint(p.Seq), p.Tag)
	}
	t.write(c.out, "")
}

// parsePoint reads --point: a kind, a time, or else an id. Without a zone a time is local.
func parsePoint(text string) (*api.PointChoice, error) {
	if text == "" {
		return nil, nil
	}
	for _, k := range []api.PointKind{api.PointLatest, api.PointLatestProcessed, api.PointLatestAppConsistent} {
		if strings.EqualFold(text, string(k)) {
			return &api.PointChoice{Kind: k}, nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return &api.PointChoice{Kind: api.PointCustom, At: at}, nil
		}
	}
	if strings.ContainsAny(text, " \t\n") || strings.EqualFold(text, string(api.PointCustom)) {
		return nil, usagef("--point %q: want latest, latestProcessed, latestAppConsistent, a point's id, or a time like 2026-03-01T12:00:00Z", text)
	}
	return &api.PointChoice{Kind: api.PointCustom, ID: text}, nil
}

// checkPoint refuses a point that the machine's vault does not offer, before anything is asked for. What cannot be read now is
// left to the leader.
func (o *operation) checkPoint(ctx context.Context, ref api.Ref, want *api.PointChoice) error {
	if want == nil || want.Kind != api.PointCustom || ref.Kind != api.KindProtectedMachine {
		return nil
	}
	list, err := machinePoints(ctx, o.cl, ref)
	if err != nil {
		return nil
	}
	for _, p := range list.Items {
		if want.ID == p.ID || want.ID == "" && !p.At.After(want.At) {
			return nil
		}
	}
	has := "there are none"
	if n := len(list.Items); n > 0 {
		has = fmt.Sprintf("there are %d, from %s (%s) to %s (%s)", n, list.Items[n-1].ID, clockTime(list.Items[n-1].At), list.Items[0].ID, clockTime(list.Items[0].At))
	}
	return usagef("--point %q: want one that vault %s has of stream %s; %s", o.at, list.Vault, list.Stream, has)
}
