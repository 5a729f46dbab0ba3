package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// columns gives the head of a kind's table.
func columns(k api.Kind) []string {
	switch k {
	case api.KindNode:
		return []string{"NAME", "CONNECTED", "VERSION", "ZONE", "HOST", "CONDITIONS", "AGE"}
	case api.KindProvider:
		return []string{"NAME", "TYPE", "DETAIL", "AGE"}
	case api.KindApplianceGroup:
		return []string{"NAME", "ACTIVE", "MEMBERS", "FAILOVER", "CONDITIONS", "AGE"}
	case api.KindJob:
		return []string{"NAME", "KIND", "SUBJECT", "MOVE", "PHASE", "STARTED", "TOOK"}
	case api.KindEvent:
		return []string{"TIME", "SEVERITY", "REGARDING", "CODE", "MESSAGE"}
	case api.KindSecret:
		return []string{"NAME", "KEYS", "AGE"}
	}
	return machineColumns(k)
}

// row gives a resource's cells under columns.
func row(now time.Time, o api.Object) []string {
	m := o.Head().Metadata
	switch o := o.(type) {
	case *api.Node:
		return []string{m.Name, yesNo(o.Status.Connected), orDash(o.Status.Version), orDash(o.Spec.Zone), orDash(o.Spec.Host),
			conditionCodes(o.Status.Conditions), age(now, m.Created)}
	case *api.Provider:
		return []string{m.Name, string(o.Spec.Type), providerDetail(o), age(now, m.Created)}
	case *api.ApplianceGroup:
		return []string{m.Name, orDash(activeOf(o)), memberSummary(o), failoverSummary(o), conditionCodes(o.Status.Conditions), age(now, m.Created)}
	case *api.Job:
		return []string{m.Name, string(o.Spec.Kind), shortRef(o.Spec.Subject), jobMove(o), string(o.Status.Phase),
			age(now, o.Status.Started) + " ago", jobTook(now, o)}
	case *api.Event:
		return []string{clockTime(m.Created), string(o.Severity), shortRef(o.Regarding), o.Code, o.Message}
	case *api.Secret:
		return []string{m.Name, strings.Join(secretKeys(o), ", "), age(now, m.Created)}
	}
	return machineRow(now, o)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func conditionCodes(cs []api.Condition) string {
	var codes []string
	for _, c := range cs {
		if !slices.Contains(codes, c.Code) {
			codes = append(codes, c.Code)
		}
	}
	return orDash(strings.Join(codes, ", "))
}

func providerDetail(p *api.Provider) string {
	switch {
	case p.Spec.Linux != nil:
		return string(p.Spec.Linux.Effects) + " effects"
	case p.Spec.Azure != nil:
		return p.Spec.Azure.Endpoint + " as " + p.Spec.Azure.Credential.Type
	}
	return "-"
}

func activeOf(g *api.ApplianceGroup) string {
	if g.Status.Assignment == nil {
		return ""
	}
	return g.Status.Assignment.Active
}

func memberStatus(g *api.ApplianceGroup, name string) api.MemberStatus {
	for _, s := range g.Status.Members {
		if s.Name == name {
			return s
		}
	}
	return api.MemberStatus{Name: name, Health: api.Unknown}
}

func memberSummary(g *api.ApplianceGroup) string {
	var out []string
	for _, m := range g.Spec.Members {
		out = append(out, m.Name+" "+string(memberStatus(g, m.Name).Health))
	}
	return strings.Join(out, ", ")
}

func failoverSummary(g *api.ApplianceGroup) string {
	if g.Spec.Paused {
		return "Paused"
	}
	return string(g.Spec.Failover.Policy)
}

// jobMove is what a job moves; a machine stays where it is in most of its jobs.
func jobMove(j *api.Job) string {
	if j.Spec.Subject.Kind == api.KindProtectedMachine && j.Spec.From == "" && j.Spec.Kind != api.JobEstablish {
		return "-"
	}
	return move(j.Spec.From, j.Spec.To)
}

func move(from, to string) string {
	if to == "" {
		return "-"
	}
	if from == "" || from == to {
		return "→ " + to
	}
	return from + " → " + to
}

func jobTook(now time.Time, j *api.Job) string {
	if j.Status.Started.IsZero() {
		return "-"
	}
	if j.Status.Ended.IsZero() {
		return seconds(now.Sub(j.Status.Started)) + " so far"
	}
	return seconds(j.Status.Ended.Sub(j.Status.Started))
}

func secretKeys(s *api.Secret) []string {
	var keys []string
	for k := range s.Data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// shadeCell colours a word that says how things are.
func (c *console) shadeCell(_ int, cell string) string {
	switch cell {
	case string(api.Up), string(api.Succeeded), "yes", "ok", string(api.StepDone), string(api.HealthNormal), string(api.Protected):
		return c.shade(styleGreen, cell)
	case string(api.Down), string(api.Critical), string(api.Blocked), string(api.StepFailed):
		return c.shade(styleRed, cell)
	case string(api.Warning), string(api.Unknown), string(api.Cancelled), "Paused", "no",
		string(api.FailoverCommitPending), string(api.FailoverCommitted), string(api.Unprotected), string(api.TestWaitingForCleanup):
		return c.shade(styleYellow, cell)
	}
	return cell
}

// objectTable lines resources of one kind up; with several tenants each says whose it is.
func (c *console) objectTable(kind api.Kind, objs []api.Object) *table {
	head, tenants := columns(kind), c.tenant == api.AllTenants
	if tenants {
		head = append([]string{"TENANT"}, head...)
	}
	t := newTable(head...)
	t.shade = c.shadeCell
	now := time.Now()
	for _, o := range objs {
		cells := row(now, o)
		if tenants {
			cells = append([]string{o.Head().Metadata.Tenant}, cells...)
		}
		t.add(cells...)
	}
	return t
}

// plural words a count.
func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
