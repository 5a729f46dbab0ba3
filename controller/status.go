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

// statusEvery is how often a subject's status is written at most.
const statusEvery = time.Second

// statusWriter keeps what was written of a subject's status.
type statusWriter struct {
	since   map[string]time.Time // by condition
	written []byte
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
	g.current = s
	c.writeGroupStatus(g)
}

// addCondition adds one more to the status just shown.
func (c *Core) addCondition(g *group, cond api.Condition) {
	g.current.Conditions = g.status.stamp(append(g.current.Conditions, cond), c.now.Wall)
	c.writeGroupStatus(g)
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

// writeGroupStatus spares a group that is looked at often the encoding of what has not changed.
func (c *Core) writeGroupStatus(g *group) {
	if g.status.written != nil && slices.Equal(g.current.Members, g.written.Members) && slices.Equal(g.current.Conditions, g.written.Conditions) {
		return
	}
	if c.writeStatus(&g.subject, encode(g.current)) {
		g.written = g.current
	}
}

// writeStatus stores a status that has changed, now or in a while. It tells whether it does so now.
func (c *Core) writeStatus(s *subject, doc []byte) bool {
	w := &s.status
	if bytes.Equal(doc, w.written) || w.pending {
		return false
	}
	if left := statusEvery - c.now.Since(w.at); !w.at.IsZero() && left > 0 {
		w.pending = true
		c.after(left, func() { w.pending, s.dirty = false, true })
		return false
	}
	w.written, w.at = doc, c.now
	c.transact(c.guard(), []store.Op{{Key: api.StatusKey(s.ref), Value: doc}}, func(d TxnDone) {
		if d.Err != nil {
			w.written = nil
			c.unsure(d.Err)
		}
	})
	return true
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
		a := c.agents[g.nodeName(s)]
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

// record writes an event about a subject.
func (c *Core) record(g *subject, s api.Severity, code, message string) {
	ev := api.Event{Regarding: g.ref, Severity: s, Code: code, Message: message, Epoch: c.elector.Epoch()}
	ev.Header = api.Header{APIVersion: api.Version, Kind: api.KindEvent, Metadata: api.Metadata{Tenant: g.ref.Tenant, Created: c.now.Wall,
		Name: fmt.Sprintf("%d-%d-%d", c.now.Wall.UnixMilli(), c.elector.Epoch(), c.nextID())}}
	c.do(Record{Event: ev})
}
