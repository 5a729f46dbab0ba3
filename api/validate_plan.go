package api

import (
	"fmt"
	"time"
)

// Validate implements Object.
func (p *RecoveryPlan) Validate() error {
	var e Invalid
	e.header(&p.Header, KindRecoveryPlan)
	e.planOrder(p.Spec.Groups)
	names, moved, items := unique{}, unique{}, 0
	for i := range p.Spec.Groups {
		g := &p.Spec.Groups[i]
		at := fmt.Sprintf("spec.groups[%d]", i)
		e.name(at+".name", g.Name)
		names.check(&e, at+".name", g.Name)
		oneOf(&e, at+".type", g.Type, GroupShutdown, GroupFailover, GroupBoot)
		items += len(g.Items)
		e.planItems(at+".items", g, moved)
		actions := unique{}
		e.planActions(at+".before", g.Before, actions)
		e.planActions(at+".after", g.After, actions)
	}
	if items < 1 || items > MaxPlanItems {
		e.Add("spec.groups", fmt.Sprintf("%d items", items), fmt.Sprintf("1 to %d", MaxPlanItems))
	}
	return e.Err()
}

// planOrder refuses groups out of order, and too many.
func (e *Invalid) planOrder(groups []PlanGroup) {
	rank := map[GroupType]int{GroupShutdown: 0, GroupFailover: 1, GroupBoot: 2}
	count := map[GroupType]int{}
	for i, g := range groups {
		count[g.Type]++
		if i > 0 && rank[g.Type] < rank[groups[i-1].Type] {
			e.Add(fmt.Sprintf("spec.groups[%d].type", i), quote(string(g.Type)), "Shutdown before Failover before Boot")
		}
		if g.Type != GroupBoot && count[g.Type] > 1 {
			e.Add(fmt.Sprintf("spec.groups[%d].type", i), quote(string(g.Type)), "one group of that type")
		}
	}
	if n := count[GroupBoot] + count[GroupFailover]; n < 1 {
		e.Add("spec.groups", fmt.Sprintf("%d Boot and Failover groups", n), "at least one")
	}
	if n := count[GroupBoot]; n > MaxBootGroups {
		e.Add("spec.groups", fmt.Sprintf("%d Boot groups", n), fmt.Sprintf("at most %d", MaxBootGroups))
	}
}

func (e *Invalid) planItems(field string, g *PlanGroup, moved unique) {
	stopped := unique{}
	for i, it := range g.Items {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case (it.Machine == "") == (it.ApplianceGroup == ""):
			e.Add(at, "both or none of machine and applianceGroup", "exactly one")
			continue
		case it.Machine != "" && (it.To != "" || it.Back != ""):
			e.Add(at+".to", quote(it.To+it.Back), "none with a machine: it has its sites")
		case it.ApplianceGroup != "" && g.Type == GroupShutdown:
			e.Add(at+".applianceGroup", quote(it.ApplianceGroup), "machines alone in a Shutdown group")
		case it.ApplianceGroup != "" && it.To == "" && it.Back == "":
			e.Add(at+".to", "", "a member, or one in back")
		}
		seen := moved
		if g.Type == GroupShutdown {
			seen = stopped
		}
		if it.Machine != "" {
			e.name(at+".machine", it.Machine)
			seen.check(e, at+".machine", "machine "+it.Machine)
			continue
		}
		e.name(at+".applianceGroup", it.ApplianceGroup)
		seen.check(e, at+".applianceGroup", "group "+it.ApplianceGroup)
		for _, m := range []struct{ field, name string }{{".to", it.To}, {".back", it.Back}} {
			if m.name != "" {
				e.name(at+m.field, m.name)
			}
		}
	}
}

func (e *Invalid) planActions(field string, actions []PlanAction, names unique) {
	for i, a := range actions {
		at := fmt.Sprintf("%s[%d]", field, i)
		e.name(at+".name", a.Name)
		names.check(e, at+".name", a.Name)
		n := 0
		for _, v := range []string{a.Script, a.Webhook, a.Manual} {
			if v != "" {
				n++
			}
		}
		if n != 1 {
			e.Add(at, fmt.Sprintf("%d of script, webhook and manual", n), "exactly one")
		}
		e.hookFile(at+".script", a.Script)
		if a.Webhook != "" {
			e.url(at+".webhook", a.Webhook, "https", "http")
		}
		if len(a.Manual) > maxNotes {
			e.Add(at+".manual", fmt.Sprintf("%d bytes", len(a.Manual)), fmt.Sprintf("at most %d", maxNotes))
		}
		for j, op := range a.Operations {
			oneOf(e, fmt.Sprintf("%s.operations[%d]", at, j), op, PlanOperations()...)
		}
		for j, d := range a.Directions {
			oneOf(e, fmt.Sprintf("%s.directions[%d]", at, j), d, PrimaryToRecovery, RecoveryToPrimary)
		}
		e.span(at+".timeout", a.Timeout, 100*time.Millisecond, 24*time.Hour)
	}
}
