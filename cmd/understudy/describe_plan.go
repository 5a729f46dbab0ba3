package main

import (
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

func (c *console) describePlan(p *api.RecoveryPlan) {
	c.describeHead(p)
	c.describeAllowed(p.Status.AllowedOperations, p.Status.CurrentScenario)
	c.describeConditions(p.Status.Conditions)
	c.print("  Groups")
	t := newTable("GROUP", "TYPE", "BEFORE", "ITEMS", "AFTER")
	for _, g := range p.Spec.Groups {
		var items []string
		for _, it := range g.Items {
			switch {
			case it.Machine != "":
				items = append(items, it.Machine)
			default:
				items = append(items, "group/"+it.ApplianceGroup)
			}
		}
		t.add(g.Name, string(g.Type), actionNames(g.Before), commas(items), actionNames(g.After))
	}
	t.write(c.out, "    ")
	if len(p.Status.Machines) == 0 {
		return
	}
	c.print("  Machines")
	t = newTable("NAME", "PROTECTION", "ACTIVE")
	t.shade = c.shadeCell
	for _, m := range p.Status.Machines {
		t.add(m.Name, orDash(string(m.ProtectionState)), orDash(string(m.ActiveLocation)))
	}
	t.write(c.out, "    ")
}

func actionNames(actions []api.PlanAction) string {
	var names []string
	for _, a := range actions {
		name := a.Name
		if a.Manual != "" {
			name += " (manual)"
		}
		names = append(names, name)
	}
	return commas(names)
}

// describeRun shows how far the newest job of a plan is.
func (c *console) describeRun(jobs []api.Object) {
	if len(jobs) == 0 {
		return
	}
	j := jobs[len(jobs)-1].(*api.Job)
	done := 0
	for _, s := range j.Status.Steps {
		if slices.Contains([]api.StepState{api.StepDone, api.StepFailed, api.StepSkipped}, s.State) {
			done++
		}
	}
	c.print("  Run %s: %s, %d of %s ended", j.Metadata.Name, strings.TrimSpace(string(j.Spec.Kind)+" "+c.shadeCell(0, string(j.Status.Phase))), done,
		plural(len(j.Status.Steps), "step", "steps"))
	c.printSteps(j)
}
