package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func eventsVerb(c *console) *cobra.Command {
	var forName string
	var followThem bool
	limit := 50
	cmd := &cobra.Command{
		Use:         "events",
		Annotations: everyTenant,
		Short:       "Show what happened, oldest first",
		Example: `  understudy events --for dmz
  understudy events --for node/edge --follow`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			about, err := regarding(forName)
			if err != nil {
				return err
			}
			regards := func(e *api.Event) bool { return about(e.Regarding) }
			if limit < 0 {
				return usagef("--limit %d: want 0 (all) or more", limit)
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			if followThem {
				return c.followEvents(cmd.Context(), cl, regards, limit)
			}
			objs, err := cl.List(cmd.Context(), api.KindEvent, "")
			if err != nil {
				return err
			}
			return c.printEvents(last(matching(objs, regards), limit))
		},
	}
	cmd.Flags().StringVar(&forName, "for", "", "only those about a group, a machine or a plan, or KIND/NAME")
	cmd.Flags().BoolVar(&followThem, "follow", false, "go on showing events as they happen, until interrupted")
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most so many that have happened already; 0 means all")
	return cmd
}

// regarding tells what --for names: KIND/NAME, or a bare name, which means every group, machine and plan that has it.
func regarding(word string) (func(api.Ref) bool, error) {
	if word == "" {
		return func(api.Ref) bool { return true }, nil
	}
	if k, name, err := kindAndName([]string{word}); err == nil && name != "" {
		return func(r api.Ref) bool { return r.Kind == k.Kind && r.Name == name }, nil
	}
	if !api.ValidName(word) {
		return nil, usagef("--for %q: want a group's, a machine's or a plan's name, or KIND/NAME", word)
	}
	return func(r api.Ref) bool { return isSubject(r.Kind) && r.Name == word }, nil
}

func matching(objs []api.Object, regards func(*api.Event) bool) []api.Object {
	out := []api.Object{}
	for _, o := range objs {
		if e, ok := o.(*api.Event); ok && regards(e) {
			out = append(out, o)
		}
	}
	return out
}

// last gives the last n; 0 means all.
func last[T any](all []T, n int) []T {
	if n > 0 && len(all) > n {
		return all[len(all)-n:]
	}
	return all
}

func (c *console) printEvents(objs []api.Object) error {
	if c.json {
		return c.printJSON(map[string]any{"items": objs})
	}
	if len(objs) == 0 {
		c.say("There are no events%s.", c.inTenant())
		return nil
	}
	c.objectTable(api.KindEvent, objs).write(c.out, "")
	return nil
}

func (c *console) followEvents(ctx context.Context, cl *client.Client, regards func(*api.Event) bool, limit int) error {
	var first []api.Object
	seen := map[api.Ref]bool{}
	synced := false
	err := follow(ctx, c, cl, api.KindEvent, "", func(e client.Event) error {
		if e.Type == "sync" {
			if !synced {
				synced = true
				return c.eventLines(last(first, limit))
			}
			return nil
		}
		ev, ok := e.Object.(*api.Event)
		if e.Type != "put" || !ok || seen[ev.Ref()] || !regards(ev) {
			return nil
		}
		seen[ev.Ref()] = true
		if !synced {
			first = append(first, ev)
			return nil
		}
		return c.eventLines([]api.Object{ev})
	})
	if errors.Is(err, context.Canceled) {
		return nil // an interrupt is how following ends
	}
	return err
}

// eventLines prints events one a line, which suits a stream better than a table.
func (c *console) eventLines(objs []api.Object) error {
	for _, o := range objs {
		if c.json {
			b, err := json.Marshal(o)
			if err != nil {
				return err
			}
			c.print("%s", b)
			continue
		}
		e := o.(*api.Event)
		severity := fmt.Sprintf("%-8s", e.Severity)
		c.print("%s  %s  %s  %s: %s", c.shade(styleFaint, clockTime(e.Metadata.Created)),
			c.shadeSeverity(e.Severity, severity), shortRef(e.Regarding), e.Code, e.Message)
	}
	return nil
}

func (c *console) shadeSeverity(s api.Severity, text string) string {
	switch s {
	case api.Critical:
		return c.shade(styleRed, text)
	case api.Warning:
		return c.shade(styleYellow, text)
	}
	return text
}
