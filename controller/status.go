package controller

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/store"
)

// statusEvery is how often a group's status is written at most.
const statusEvery = time.Second

// statusWriter keeps a group's status and what of it was written.
type statusWriter struct {
	since   map[string]time.Time // by condition
	current api.GroupStatus
	written []byte
	shown   api.GroupStatus // what written says
	at      clock.Instant
	pending bool
}

// showStatus keeps the group's status up to date in the store, written on change and at most once a second.
func (c *Core) showStatus(g *group, verdicts map[string]health.Verdict, conditions []api.Condition) {
	s := api.GroupStatus{}
	for _, m := range g.spec.Spec.Members {
		v := verdicts[m.Name]
		s.Members = append(s.Members, api.MemberStatus{Name: m.Name, Health: v.Health, Since: v.Since, Up: v.Up, Down: v.Down, Detail: v.Detail})
	}
	for _, f := range g.findings {
		conditions = append(conditions, api.Condition{Code: f.Code, Severity: f.Severity, Message: f.Message, Impacts: "the next move"})
	}
	conditions = append(conditions, c.agentConditions(g)...)
	s.Conditions = g.status.stamp(conditions, c.now.Wall)
	g.status.current = s
	c.writeStatus(g)
}

// addCondition adds one more to the status just shown.
func (c *Core) addCondition(g *group, cond api.Condition) {
	g.status.current.Conditions = g.status.stamp(append(g.status.current.Conditions, cond), c.now.Wall)
	c.writeStatus(g)
}

// stamp gives each condition the time since when it holds. Conditions are alike if code and subject are.
func (w *statusWriter) stamp(cs []api.Condition, now time.Time) []api.Condition {
	since := map[string]time.Time{}
	for i := range cs {
		subject, _, _ := strings.Cut(cs[i].Message, ":")
		key := cs[i].Code + " " + subject
		cs[i].Since = now
		if t, ok := w.since[key]; ok {
			cs[i].Since = t
		}
		since[key] = cs[i].Since
	}
	w.since = since
	return cs
}

func (c *Core) writeStatus(g *group) {
	w := &g.status
	if w.written != nil && slices.Equal(w.current.Members, w.shown.Members) && slices.Equal(w.current.Conditions, w.shown.Conditions) {
		return
	}
	doc := encode(w.current)
	if bytes.Equal(doc, w.written) || w.pending {
		return
	}
	if left := statusEvery - c.now.Since(w.at); !w.at.IsZero() && left > 0 {
		w.pending = true
		c.after(left, func() { w.pending, g.dirty = false, true })
		return
	}
	w.written, w.shown, w.at = doc, w.current, c.now
	c.transact(c.guard(), []store.Op{{Key: api.StatusKey(g.ref), Value: doc}}, func(d TxnDone) {
		if d.Err != nil {
			w.written = nil
			c.unsure(d.Err)
		}
	})
}

// agentConditions says which nodes the group needs and cannot reach.
func (c *Core) agentConditions(g *group) []api.Condition {
	p := c.provider(g)
	if p == nil {
		return []api.Condition{{Code: "ProviderMissing", Severity: api.Critical, Message: fmt.Sprintf("provider %s: there is none of that name", g.spec.Spec.Provider), Impacts: "no move is possible"}}
	}
	if p.Spec.Type != api.ProviderLinux {
		return nil
	}
	var out []api.Condition
	seen := map[string]bool{}
	for _, s := range g.nodes() {
		a := c.agents[nodeName(g, s)]
		if (a == nil || a.gone) && !seen[s] {
			seen[s] = true
			out = append(out, api.Condition{Code: "AgentDisconnected", Severity: api.Warning, Message: s + ": its agent has no session with the leader", Impacts: "moves that need it wait"})
		}
	}
	return out
}

// nodes lists the nodes the group has to do with.
func (g *group) nodes() []string {
	var out []string
	for _, a := range g.spec.Spec.PublicAddresses {
		if a.ID != "" && !strings.HasPrefix(a.ID, "/") {
			out = append(out, a.ID)
		}
	}
	for _, t := range g.spec.Spec.RouteTables {
		out = append(out, routerOf(t.ID))
	}
	for _, m := range g.spec.Spec.Members {
		if m.Node != "" {
			out = append(out, m.Node)
		}
	}
	return out
}

// record writes an event about a group.
func (c *Core) record(g *group, s api.Severity, code, message string) {
	ev := api.Event{Regarding: g.ref, Severity: s, Code: code, Message: message, Epoch: c.elector.Epoch()}
	ev.Header = api.Header{APIVersion: api.Version, Kind: api.KindEvent, Metadata: api.Metadata{Tenant: g.ref.Tenant, Created: c.now.Wall,
		Name: fmt.Sprintf("%d-%d-%d", c.now.Wall.UnixMilli(), c.elector.Epoch(), c.nextID())}}
	c.do(Record{Event: ev})
}
