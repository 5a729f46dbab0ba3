package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
)

func describeVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "describe KIND NAME",
		Short: "Show a resource with everything that has to do with it",
		Long: `Show a resource with everything that has to do with it: of a group its members, who is active and why, what holds
now; of a machine its state, what may be asked of it, how fresh its copy is, its recovery points and its last drill; of a recovery
plan its groups and machines and how far its run is; then the latest jobs with the newest one's timeline, and recent events.`,
		Example: "  understudy describe group dmz\n  understudy describe machine web\n  understudy describe plan shop",
		Args:    args("KIND", "[NAME]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			kind, name, err := kindAndName(given)
			if err == nil && name == "" {
				err = usagef("describe %s: NAME is missing; understudy get %s lists them", given[0], kind.Plural)
			}
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			return c.describe(cmd.Context(), cl, kind, name)
		},
	}
}

// described is what describe answers as JSON.
type described struct {
	Object api.Object `json:"object"`
	// Points of a machine, summed up.
	Points *pointSummary `json:"points,omitempty"`
	// Node that keeps a vault or runs a process server.
	Node   *api.Node    `json:"node,omitempty"`
	Jobs   []api.Object `json:"jobs,omitempty"`
	Events []api.Object `json:"events,omitempty"`
}

// How much of the past describe shows.
const (
	describedJobs   = 5
	describedEvents = 10
)

func (c *console) describe(ctx context.Context, cl *client.Client, kind api.KindInfo, name string) error {
	d, err := gather(ctx, cl, kind, name)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(d)
	}
	switch o := d.Object.(type) {
	case *api.ApplianceGroup:
		c.describeGroup(o)
		c.describeJobs(d.Jobs)
	case *api.ProtectedMachine:
		c.describeMachine(o, d.Points)
		c.describeJobs(d.Jobs)
	case *api.RecoveryPlan:
		c.describePlan(o)
		c.describeRun(d.Jobs)
		c.describeJobs(d.Jobs)
	case *api.Job:
		c.printJob(o)
	case *api.Node:
		c.describeNode(o)
	case *api.Provider:
		c.describeProvider(o)
	case *api.Secret:
		c.describeHead(o)
		c.fields(13)("Keys", strings.Join(secretKeys(o), ", ")+" (values are never shown)")
	case *api.Event:
		return c.printYAML(o)
	case *api.Vault:
		c.describeHead(o)
		c.describeCells(kind.Kind, o)
		c.describeMirror(o)
		c.describeEngine(d.Node, api.EngineKeeper, o.Ref())
	case *api.ProcessServer:
		c.describeHead(o)
		c.describeCells(kind.Kind, o)
		c.describeEngine(d.Node, api.EngineProcessServer, o.Ref())
	default:
		c.describeHead(o)
		c.describeCells(kind.Kind, o)
	}
	c.describeEvents(d.Events)
	return nil
}

// gather reads a resource and what belongs to it.
func gather(ctx context.Context, cl *client.Client, kind api.KindInfo, name string) (d described, err error) {
	if d.Object, err = cl.Get(ctx, kind.Kind, "", name); err != nil {
		return d, err
	}
	ref := d.Object.Head().Ref()
	if isSubject(kind.Kind) {
		jobs, err := cl.List(ctx, api.KindJob, "")
		if err != nil {
			return d, err
		}
		d.Jobs = last(jobsOf(jobs, func(r api.Ref) bool { return r == ref }), describedJobs)
	}
	if kind.Kind == api.KindProtectedMachine {
		d.Points = summedPoints(ctx, cl, ref)
	}
	if d.Node, err = engineNode(ctx, cl, d.Object); err != nil {
		return d, err
	}
	if kind.Kind == api.KindEvent || kind.Kind == api.KindJob {
		return d, nil
	}
	events, err := cl.List(ctx, api.KindEvent, "")
	d.Events = last(matching(events, func(e *api.Event) bool { return e.Regarding == ref }), describedEvents)
	return d, err
}

func (c *console) describeHead(o api.Object) {
	h := o.Head()
	c.print("%s", c.shade(styleBold, shortRef(h.Ref())))
	f := c.fields(13)
	var labels []string
	for k, v := range h.Metadata.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	f("Labels", strings.Join(labels, ", "))
	if h.Metadata.Generation > 0 {
		f("Spec", fmt.Sprintf("generation %d, written %s", h.Metadata.Generation, clockTime(h.Metadata.Updated)))
	}
}

// describeCells shows what a table shows of a resource, one below the other.
func (c *console) describeCells(kind api.Kind, o api.Object) {
	f, cells := c.fields(13), row(time.Now(), o)
	for i, head := range columns(kind) {
		if head != "NAME" && head != "AGE" && cells[i] != "-" {
			f(head[:1]+strings.ToLower(head[1:]), cells[i])
		}
	}
}

func (c *console) describeConditions(cs []api.Condition) {
	if len(cs) == 0 {
		return
	}
	c.print("  Conditions")
	for _, cond := range cs {
		severity := fmt.Sprintf("%-8s", cond.Severity)
		line := fmt.Sprintf("    %s  %s: %s", c.shadeSeverity(cond.Severity, severity), cond.Code, cond.Message)
		if cond.Impacts != "" {
			line += " (impacts " + cond.Impacts + ")"
		}
		c.print("%s, since %s", line, clockTime(cond.Since))
	}
}

func (c *console) describeNode(n *api.Node) {
	c.describeHead(n)
	f := c.fields(13)
	since := ""
	if !n.Status.Since.IsZero() {
		since = ", since " + clockTime(n.Status.Since)
	}
	f("Connected", c.shadeCell(0, yesNo(n.Status.Connected))+since)
	f("Version", n.Status.Version)
	f("Zone", n.Spec.Zone)
	f("Host", n.Spec.Host)
	f("Drivers", strings.Join(n.Status.Drivers, ", "))
	c.describeConditions(n.Status.Conditions)
	if len(n.Status.Sections) == 0 {
		return
	}
	c.print("  Sections")
	t := newTable("ENGINE", "OWNER", "EPOCH", "GENERATION", "REPAIRED", "ERROR")
	for _, s := range n.Status.Sections {
		t.add(s.Engine, s.Owner, fmt.Sprint(s.Applied.Epoch), fmt.Sprint(s.Applied.Generation), fmt.Sprint(s.Repaired), orDash(s.Error))
	}
	t.write(c.out, "    ")
}

func (c *console) describeProvider(p *api.Provider) {
	c.describeHead(p)
	f := c.fields(13)
	f("Type", string(p.Spec.Type))
	f("Detail", providerDetail(p))
	if a := p.Spec.Azure; a != nil {
		f("Secret", a.Credential.SecretRef)
	}
}

func (c *console) describeEvents(events []api.Object) {
	if len(events) == 0 {
		return
	}
	c.print("  Events")
	t := newTable("TIME", "SEVERITY", "CODE", "MESSAGE")
	t.shade = c.shadeCell
	for _, o := range events {
		e := o.(*api.Event)
		t.add(clockTime(e.Metadata.Created), string(e.Severity), e.Code, e.Message)
	}
	t.write(c.out, "    ")
}
