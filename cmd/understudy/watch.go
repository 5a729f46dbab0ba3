package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func watchVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use:         "watch KIND [NAME]",
		Annotations: everyTenant,
		Short:       "Show resources, and again whenever they change",
		Long: `Show the resources of a kind, or one, and again whenever they change, until interrupted.

States may be skipped when they change fast; the last one never is. With --json each line is
{"type": "put" or "delete", "object": …}. When a controller goes away another one is asked.`,
		Args: args("KIND", "[NAME]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			kind, name, err := kindAndName(given)
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			err = follow(cmd.Context(), c, cl, kind.Kind, name, c.watchPrinter(kind.Kind))
			if errors.Is(err, context.Canceled) {
				return nil // an interrupt is how a watch ends
			}
			return err
		},
	}
}

// watchPrinter prints the first states as one table, then a line for each change.
func (c *console) watchPrinter(kind api.Kind) func(client.Event) error {
	var first []api.Object
	synced := false
	return func(e client.Event) error {
		switch {
		case c.json:
			return c.watchLine(e)
		case e.Type == "sync" && !synced:
			synced = true
			c.objectTable(kind, first).write(c.out, "")
		case e.Type == "put" && !synced:
			first = append(first, e.Object)
		case e.Type == "delete":
			c.print("%s deleted", shortRef(e.Object.Head().Ref()))
		case e.Type == "put":
			t := c.objectTable(kind, []api.Object{e.Object})
			fmt.Fprint(c.out, c.shade(styleFaint, time.Now().Format("15:04:05.000")+"  "))
			t.line(c.out, "", t.rows[0], make([]int, len(t.head)), t.shade)
		}
		return nil
	}
}

func (c *console) watchLine(e client.Event) error {
	if e.Type == "sync" {
		return nil
	}
	b, err := json.Marshal(map[string]any{"type": e.Type, "object": e.Object})
	if err == nil {
		c.print("%s", b)
	}
	return err
}

// errEnough ends a follow: what was waited for has come.
var errEnough = errors.New("enough")

// rewatchAfter is how long follow waits before it asks again after a watch broke.
const rewatchAfter = 500 * time.Millisecond

// follow watches until f gives errEnough (then it returns nil) or another error. A watch that breaks after it once
// worked is begun again; f then meets everything that is there another time.
func follow(ctx context.Context, c *console, cl *client.Client, kind api.Kind, name string, f func(client.Event) error) error {
	worked, told := false, false
	for {
		var own error
		err := cl.Watch(ctx, kind, "", name, func(e client.Event) error {
			worked, told = true, false
			own = f(e)
			return own
		})
		var refusal *api.Error
		switch {
		case errors.Is(own, errEnough):
			return nil
		case own != nil:
			return own
		case ctx.Err() != nil:
			return ctx.Err()
		case !worked, errors.As(err, &refusal) && refusalCode(refusal.Code) != exitUnreachable:
			return err
		}
		if !told {
			told = true
			c.say("The watch broke (%v); asking again.", err)
		}
		if err := sleep(ctx, rewatchAfter); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
