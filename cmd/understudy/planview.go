package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// planView is a plan with what people ask of it: when each step runs, and which steps decide how long it all takes.
type planView struct {
	api.Plan
	Rows []planRow `json:"schedule"`
}

// planRow is one step of the schedule, counted from the decision.
type planRow struct {
	ID string `json:"id"`
	// Start and End are when it runs if everything takes as long as expected.
	Start api.Duration `json:"start"`
	End   api.Duration `json:"end"`
	// Critical steps decide how long the whole takes.
	Critical bool `json:"critical,omitempty"`
}

func viewPlan(p api.Plan) planView {
	take := func(s api.Step) time.Duration { return s.Expected.D() }
	ends := api.Finish(p.Steps, take)
	critical := criticalSteps(p.Steps, ends, take)
	v := planView{Plan: p}
	for _, s := range p.Steps {
		end := ends[s.ID]
		v.Rows = append(v.Rows, planRow{ID: s.ID, Start: api.Duration(end - take(s)), End: api.Duration(end), Critical: critical[s.ID]})
	}
	return v
}

// criticalSteps walks back from the steps that end last: each began when one that it waited for was done.
func criticalSteps(steps []api.Step, ends map[string]time.Duration, take func(api.Step) time.Duration) map[string]bool {
	var total time.Duration
	for _, end := range ends {
		total = max(total, end)
	}
	critical := map[string]bool{}
	var walk func(s api.Step)
	walk = func(s api.Step) {
		if critical[s.ID] {
			return
		}
		critical[s.ID] = true
		start := ends[s.ID] - take(s)
		for _, other := range steps {
			if start > 0 && ends[other.ID] == start && waitsFor(s, other) {
				walk(other)
			}
		}
	}
	for _, s := range steps {
		if ends[s.ID] == total && total > 0 {
			walk(s)
		}
	}
	return critical
}

// waitsFor tells whether s cannot begin before other is done, by its needs or by the lock they share.
func waitsFor(s, other api.Step) bool {
	return slices.Contains(s.Needs, other.ID) || s.Lock != "" && other.Lock == s.Lock && other.ID != s.ID
}

// stepWhat says in words what a step does.
func stepWhat(s api.Step) string {
	switch {
	case s.Node != nil:
		return nodeWhat(s)
	case s.Routes != nil:
		return routesWhat(s.Routes)
	case s.NIC != nil:
		return fmt.Sprintf("%s of %s", plural(len(s.NIC.Addresses), "address", "addresses"), shortID(s.NIC.NIC))
	case s.Hook != nil:
		return "hook " + s.Hook.Hook.Name
	case s.Wait > 0:
		return "wait " + s.Wait.String()
	}
	return machineStepWhat(s)
}

func nodeWhat(s api.Step) string {
	var parts []string
	for _, sec := range s.Node.Sections {
		switch {
		case sec.Routes != nil:
			parts = append(parts, plural(len(sec.Routes.Routes), "route", "routes")+viaOf(sec.Routes.Routes))
		case sec.Addresses != nil:
			parts = append(parts, plural(len(sec.Addresses.Addresses), "address", "addresses"))
		case sec.Role != nil:
			parts = append(parts, "role "+string(sec.Role.Role))
		default:
			parts = append(parts, engineWhat(sec))
		}
	}
	return strings.TrimSuffix(s.Node.Node+": "+strings.Join(parts, ", "), ": ")
}

func viaOf(routes []api.KernelRoute) string {
	hops := map[string]bool{}
	for _, r := range routes {
		hops[r.Via] = true
	}
	return hopWords(hops)
}

func routesWhat(r *api.RoutesStep) string {
	hops := map[string]bool{}
	for _, rt := range r.Routes {
		hops[rt.NextHop] = true
	}
	return fmt.Sprintf("%s of %s%s", plural(len(r.Routes), "route", "routes"), shortID(r.Table), hopWords(hops))
}

func hopWords(hops map[string]bool) string {
	var list []string
	for h := range hops {
		list = append(list, h)
	}
	slices.Sort(list)
	if len(list) == 0 || len(list) > 2 {
		return ""
	}
	return " → " + strings.Join(list, ", ")
}

// shortID is the last name of an ARM id, or the id.
func shortID(id string) string { return id[strings.LastIndex(id, "/")+1:] }

// printPlan shows a plan as people read it.
func (c *console) printPlan(p api.Plan) {
	v := viewPlan(p)
	what := "move"
	switch {
	case p.Operation == "":
		c.print("%s: %s", shortRef(p.Group), move(p.From, p.To))
	case p.From == "":
		c.print("%s: %s", shortRef(p.Group), p.Operation)
	default:
		c.print("%s: %s, %s", shortRef(p.Group), p.Operation, move(p.From, p.To))
	}
	if p.Operation != "" {
		what = "operation"
	}
	if len(p.Steps) == 0 {
		c.print("  Nothing has to change.")
		return
	}
	t := newTable("", "STEP", "KIND", "WHAT", "AFTER", "STARTS", "EXPECTED", "WORST")
	t.shade = func(i int, cell string) string {
		if i == 0 {
			return c.shade(styleYellow, cell)
		}
		return cell
	}
	for i, s := range p.Steps {
		mark := ""
		if v.Rows[i].Critical {
			mark = "*"
		}
		t.add(mark, s.ID, string(s.Kind), orDash(stepWhat(s)), orDash(strings.Join(s.Needs, ", ")),
			"+"+seconds(v.Rows[i].Start.D()), seconds(s.Expected.D()), seconds(s.Worst.D()))
	}
	t.write(c.out, "  ")
	c.print("  The %s takes %s, at worst %s: the longest path through its steps (*).", what, seconds(p.Expected.D()), seconds(p.Worst.D()))
	if p.Detect > 0 {
		c.print("  A dead active member is noticed after %s, so a failover takes %s, at worst %s.", seconds(p.Detect.D()),
			seconds(p.Detect.D()+p.Expected.D()), seconds(p.Detect.D()+p.Worst.D()))
	}
}
