package main

import (
	"context"
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

// pointSummary is what describe says of a machine's recovery points.
type pointSummary struct {
	Vault  string `json:"vault,omitempty"`
	Stream string `json:"stream,omitempty"`
	Count  int    `json:"count"`
	// App counts those that are app-consistent.
	App    int                `json:"appConsistent"`
	Newest *api.RecoveryPoint `json:"newest,omitempty"`
	Oldest *api.RecoveryPoint `json:"oldest,omitempty"`
	// Error says why they cannot be read.
	Error string `json:"error,omitempty"`
}

// pointsWithin is how long describe waits for a vault.
const pointsWithin = 10 * time.Second

// summedPoints reads a machine's points. A vault that does not answer keeps nothing else from being shown.
func summedPoints(ctx context.Context, cl *client.Client, ref api.Ref) *pointSummary {
	ctx, cancel := context.WithTimeout(ctx, pointsWithin)
	defer cancel()
	list, err := machinePoints(ctx, cl, ref)
	if err != nil {
		return &pointSummary{Error: err.Error()}
	}
	s := &pointSummary{Vault: list.Vault, Stream: list.Stream, Count: len(list.Items)}
	for i := range list.Items {
		if list.Items[i].Consistency == api.AppConsistent {
			s.App++
		}
	}
	if n := len(list.Items); n > 0 {
		s.Newest, s.Oldest = &list.Items[0], &list.Items[n-1]
	}
	return s
}

func (p *pointSummary) words() string {
	switch {
	case p.Error != "":
		return p.Error
	case p.Count == 0:
		return fmt.Sprintf("none of stream %s in vault %s", p.Stream, p.Vault)
	}
	return fmt.Sprintf("%d in vault %s, %d app-consistent; newest %s of %s, oldest %s of %s", p.Count, p.Vault, p.App,
		p.Newest.ID, clockTime(p.Newest.At), p.Oldest.ID, clockTime(p.Oldest.At))
}

func (c *console) describeMachine(m *api.ProtectedMachine, points *pointSummary) {
	c.describeHead(m)
	f, s := c.fields(13), &m.Status
	f("Protection", c.shadeCell(0, string(s.ProtectionState)))
	f("Active", c.machineActive(m))
	if a := s.Assignment; a != nil {
		f("Because", a.Reason)
		f("Assignment", fmt.Sprintf("generation %d, epoch %d, job %s", a.Generation, a.Epoch, a.Job))
	}
	f("Health", c.shadeCell(0, string(s.ReplicationHealth)))
	c.describeAllowed(s.AllowedOperations, s.CurrentScenario)
	f("From", fmt.Sprintf("%s, node %s; policy %s, process server %s", m.Spec.Source.Site, m.Spec.Source.Node, m.Spec.Policy, m.Spec.ProcessServer))
	f("To", fmt.Sprintf("%s, node %s; vault %s", m.Spec.Recovery.Site, m.Spec.Recovery.Node, m.Spec.Vault))
	if b := m.Spec.Failback; b != nil {
		f("Way back", fmt.Sprintf("process server %s; vault %s", b.ProcessServer, b.Vault))
	}
	c.describeReplication(s.Replication)
	if points != nil {
		f("Points", points.words())
	}
	if s.Run != nil {
		f("Run", describedRun(s.Run))
	}
	if s.Test != nil {
		f("Drill", string(s.TestFailoverState)+", "+describedRun(s.Test))
	}
	f("Last drill", lastDrill(s.LastDrill))
	c.describeConditions(s.Conditions)
	c.describeDisks(m.Spec.Disks)
}

func (c *console) machineActive(m *api.ProtectedMachine) string {
	s := &m.Status
	if s.ActiveLocation == "" {
		return c.shade(styleYellow, "not set up yet")
	}
	node := m.Spec.Source.Node
	if s.ActiveLocation == api.Recovery {
		node = m.Spec.Recovery.Node
	}
	return c.shade(styleBold, activeWords(s)) + ", node " + node
}

// describeAllowed says what may be asked now, or what runs.
func (c *console) describeAllowed(ops []api.OperationKind, running *api.Scenario) {
	f := c.fields(13)
	allowed := joined(ops)
	if allowed == "" {
		allowed = "nothing now"
	}
	f("Allowed", allowed)
	if running != nil {
		f("Running", fmt.Sprintf("%s, job %s, for %s", running.Name, running.Job, age(time.Now(), running.Started)))
	}
}

func (c *console) describeReplication(r *api.ReplicationStatus) {
	if r == nil {
		return
	}
	f := c.fields(13)
	f("Replication", r.Phase+percent(r.Progress)+" at "+r.Node+", stream "+orDash(r.Stream))
	rpo := seconds(r.RPO.D())
	if r.RPOp99 > 0 { // something arrived lately
		rpo += fmt.Sprintf("; in the last ten minutes p50 %s, p99 %s", seconds(r.RPOp50.D()), seconds(r.RPOp99.D()))
	}
	f("RPO", rpo)
	f("Writes", fmt.Sprintf("%d captured = %d stored + %d not yet", r.Captured, r.Stored, r.Dirty))
	if r.ResyncBytes > 0 {
		f("Compared", fmt.Sprintf("%s for the initial copy, gaps and reprotection, of which %s were sent", roughBytes(r.ResyncBytes), roughBytes(r.DifferingBytes)))
	}
}

func describedRun(r *api.RunStatus) string {
	words := runWords(r)
	if p := r.Point; p != nil {
		words += " (" + string(p.Consistency) + "-consistent, " + clockTime(p.At) + ")"
	}
	for _, x := range []struct{ name, value string }{{"answers after ", answers(r)}, {"at ", r.Address}, {"screenshot ", r.Screenshot}} {
		if x.value != "" {
			words += ", " + x.name + x.value
		}
	}
	return words
}

func answers(r *api.RunStatus) string {
	if r.AnswersAfter == 0 {
		return ""
	}
	return seconds(r.AnswersAfter.D())
}

func lastDrill(d *api.DrillResult) string {
	if d == nil {
		return "never"
	}
	words := "failed"
	if d.Passed {
		words = "passed"
	}
	words += ", cleaned up " + clockTime(d.At)
	for _, x := range []struct{ name, value string }{{"point ", d.Point}, {"by ", d.By}, {"notes: ", d.Notes}} {
		if x.value != "" {
			words += ", " + x.name + x.value
		}
	}
	return words
}

func (c *console) describeDisks(disks []api.MachineDisk) {
	c.print("  Disks")
	t := newTable("NAME", "PATH")
	for _, d := range disks {
		t.add(d.Name, d.Path)
	}
	t.write(c.out, "    ")
}
