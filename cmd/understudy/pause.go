package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func pauseVerb(c *console) *cobra.Command {
	return pausing(c, "pause", "Stop automatic moves and drift repair of a group",
		"Stop automatic moves and drift repair of a group until it is resumed. Probing goes on; `understudy failover` still moves.",
		"%s is paused: nothing moves by itself. Go on with: understudy resume %s")
}

func resumeVerb(c *console) *cobra.Command {
	return pausing(c, "resume", "Let a paused group move by itself again",
		"Let a paused group move by itself again. If its active member is down, it may fail over at once.",
		"%s is resumed: it moves by itself again. See it with: understudy describe group %s")
}

func pausing(c *console, verb, short, long, done string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " GROUP",
		Short: short,
		Long:  long,
		Args:  args("GROUP"),
		RunE: func(cmd *cobra.Command, given []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			var g api.ApplianceGroup
			if err := cl.Call(cmd.Context(), http.MethodPost, client.Path(api.KindApplianceGroup, given[0])+"/"+verb, nil, "", nil, &g); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(&g)
			}
			c.print(done, given[0], given[0])
			return nil
		},
	}
}
