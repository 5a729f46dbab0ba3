package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
)

func statusVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use:         "status",
		Annotations: everyTenant,
		Short:       "Show who leads, and which controllers and agents are there",
		Args:        args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			var s api.ClusterStatus
			if err := cl.Call(cmd.Context(), http.MethodGet, "/v1/status", nil, "", nil, &s); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(s)
			}
			c.printStatus(s)
			return nil
		},
	}
}

func (c *console) printStatus(s api.ClusterStatus) {
	leader := s.Leader
	if leader == "" {
		leader = c.shade(styleRed, "nobody")
	}
	c.print("Cluster %s, state in %s", s.ClusterID, s.Store)
	c.print("Leader  %s, epoch %d", leader, s.Epoch)
	c.print("Asked   %s, version %s", s.Controller, s.Version)
	t := newTable("CONTROLLER", "ADDRESS", "ROLE", "HEARD BY "+strings.ToUpper(s.Controller))
	t.shade = c.shadeCell
	for _, m := range s.Members {
		role := "follower"
		if m.Name == s.Leader {
			role = "leader"
		}
		t.add(m.Name, m.Address, role, yesNo(m.Heard))
	}
	t.write(c.out, "")
	agents := "none have a session with " + s.Controller
	if len(s.Agents) > 0 {
		agents = fmt.Sprintf("%d: %s", len(s.Agents), strings.Join(s.Agents, ", "))
	}
	c.print("Agents  %s", agents)
}
