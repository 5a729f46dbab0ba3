package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

func (c *console) describeGroup(g *api.ApplianceGroup) {
	c.describeHead(g)
	f := c.fields(13)
	f("Mode", fmt.Sprintf("%s, serves %s", g.Spec.Mode, joined(g.Spec.Serves)))
	f("Provider", g.Spec.Provider)
	f("Probe", probeWords(g.Spec.Probe))
	f("Observers", quorumWords(g.Spec.Observers))
	f("Failover", policyWords(g))
	if d := g.Spec.Drain.Period; d > 0 {
		f("Drain", d.String()+" before a planned move")
	}
	c.describeAssignment(g)
	c.describeConditions(g.Status.Conditions)
	c.describeMembers(g)
	c.describeMovables(g)
}

func joined[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, a := range all {
		words[i] = string(a)
	}
	return strings.Join(words, ", ")
}

func probeWords(p api.Probe) string {
	s := string(p.Protocol)
	if p.Port != 0 {
		s += fmt.Sprintf(" port %d", p.Port)
	}
	if p.Path != "" {
		s += " " + p.Path
	}
	detect := time.Duration(p.Fall)*p.Interval.D() + p.Timeout.D()
	return fmt.Sprintf("%s every %s, timeout %s; down after %d in a row, up after %d; a dead member is noticed after %s",
		s, p.Interval, p.Timeout, p.Fall, p.Rise, seconds(detect))
}

func quorumWords(o api.Observers) string {
	if o.Quorum == 0 {
		return "more than half of the controllers must agree"
	}
	return plural(o.Quorum, "controller", "controllers") + " must agree"
}

func policyWords(g *api.ApplianceGroup) string {
	s := string(g.Spec.Failover.Policy) + ", failback " + string(g.Spec.Failback.Policy)
	if g.Spec.Failback.Policy == api.Automatic && g.Spec.Failback.Hold != nil {
		s += " after " + g.Spec.Failback.Hold.String()
	}
	if g.Spec.Paused {
		s += "; PAUSED: nothing moves by itself"
	}
	return s
}

func (c *console) describeAssignment(g *api.ApplianceGroup) {
	a := g.Status.Assignment
	f := c.fields(13)
	if a == nil {
		f("Active", c.shade(styleYellow, "nobody yet"))
		return
	}
	was := ""
	if a.Previous != "" {
		was = ", before that " + a.Previous
	}
	f("Active", c.shade(styleBold, a.Active)+" since "+clockTime(a.At)+was)
	f("Because", a.Reason)
	f("Assignment", fmt.Sprintf("generation %d, epoch %d, job %s", a.Generation, a.Epoch, a.Job))
}

func (c *console) describeMembers(g *api.ApplianceGroup) {
	c.print("  Members")
	t := newTable("NAME", "ROLE", "HEALTH", "SINCE", "UP", "DOWN", "NODE", "PROBE", "NICS", "DETAIL")
	t.shade = c.shadeCell
	for _, m := range g.Spec.Members {
		s := memberStatus(g, m.Name)
		role := "standby"
		if m.Name == activeOf(g) {
			role = "active"
		}
		var nics []string
		for _, n := range m.NICs {
			nics = append(nics, n.Name+" "+n.Address)
		}
		t.add(m.Name, role, string(s.Health), clockTime(s.Since), fmt.Sprint(s.Up), fmt.Sprint(s.Down), orDash(m.Node), m.Probe,
			strings.Join(nics, ", "), orDash(s.Detail))
	}
	t.write(c.out, "    ")
}

func (c *console) describeMovables(g *api.ApplianceGroup) {
	if len(g.Spec.PublicAddresses)+len(g.Spec.RouteTables) == 0 {
		return
	}
	c.print("  Moves")
	t := newTable("WHAT", "AT", "NIC")
	for _, a := range g.Spec.PublicAddresses {
		what := a.Name
		if a.Address != "" {
			what += " " + a.Address
		}
		t.add("address "+what, orDash(shortID(a.ID)), a.NIC)
	}
	for _, table := range g.Spec.RouteTables {
		for _, r := range table.Routes {
			t.add("route "+r.Prefix, tableWords(table.ID), r.NIC)
		}
	}
	t.write(c.out, "    ")
}

// tableWords shortens an ARM id to its name; NODE/TABLE stays.
func tableWords(id string) string {
	if strings.HasPrefix(id, "/") {
		return shortID(id)
	}
	return id
}

func (c *console) describeJobs(jobs []api.Object) {
	if len(jobs) == 0 {
		return
	}
	c.print("  Jobs")
	c.historyTable(jobs).write(c.out, "    ")
	newest := jobs[len(jobs)-1].(*api.Job)
	if len(newest.Status.Timeline) == 0 {
		return
	}
	c.print("  Timeline of %s", newest.Metadata.Name)
	for _, e := range newest.Status.Timeline {
		c.print("  %s", timelineLine(newest, e))
	}
}
