package controller

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/recovery"
)

// standing keeps process servers and keepers told of what follows from all machines. Nothing of it is stored: a leader tells every
// node once, and again whenever it changes, until the node has taken it.
type standing struct {
	stale  bool // what is wanted must be worked out anew
	orders []*order
	// said are the nodes that have said something since it was looked at what is left over there.
	said     map[string]bool
	leftover []*order
}

// order is one section that one node should have.
type order struct {
	node    string // tenant/name
	section api.Section
	doc     []byte // what of it counts: the section, and the revisions of its secrets
	taken   []byte // doc as the node has taken it, in its session
	session uint64 // of taken, and of the push under way
	push    uint64 // unanswered; 0: none
	pushed  []byte
	at      clock.Instant
	failed  string
	notYet  clock.Instant // not before that again
}

// orderEvery is how soon a section that was refused, or not answered, is sent again.
const orderEvery = 2 * time.Second

// giveOrders works out what is wanted and tells nodes.
func (c *Core) giveOrders() {
	if !c.leading || !c.fresh || c.stopping {
		return
	}
	if c.standing.stale {
		c.standing.stale = false
		c.workOut()
		c.hearAll()
	}
	c.lookForLeftovers()
	for _, o := range append(c.standing.orders[:len(c.standing.orders):len(c.standing.orders)], c.standing.leftover...) {
		c.give(o)
	}
}

// workOut brings the orders in line with the resources.
func (c *Core) workOut() {
	views := map[string][]recovery.View{}
	for _, d := range c.order {
		if m, ok := d.(*machine); ok && m.spec != nil {
			views[m.ref.Tenant] = append(views[m.ref.Tenant], m.view())
		}
	}
	old := map[string]*order{}
	for _, o := range c.standing.orders {
		old[o.node+" "+lead.SectionKey(o.section.Engine, o.section.Owner)] = o
	}
	var orders []*order
	add := func(tenant string, t recovery.Told) {
		o := old[tenant+"/"+t.Node+" "+lead.SectionKey(t.Section.Engine, t.Section.Owner)]
		if o == nil {
			o = &order{node: tenant + "/" + t.Node}
		}
		o.section, o.doc = t.Section, encode(struct {
			api.Section
			Secrets []int64
		}{t.Section, c.secretRevs(tenant, t.Section)})
		orders = append(orders, o)
	}
	for ref, o := range c.things {
		switch o := o.(type) {
		case *api.ProcessServer:
			add(ref.Tenant, recovery.ProcessServer(o, views[ref.Tenant]))
		case *api.Vault:
			add(ref.Tenant, recovery.Keeper(o, views[ref.Tenant]))
		}
	}
	slices.SortFunc(orders, func(a, b *order) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.section.Engine, b.section.Engine), cmp.Compare(a.section.Owner, b.section.Owner))
	})
	c.standing.orders = orders
}

func (c *Core) secretRevs(tenant string, s api.Section) []int64 {
	var out []int64
	for _, name := range recovery.Secrets([]api.Section{s}) {
		out = append(out, int64(c.secrets[api.Ref{Kind: api.KindSecret, Tenant: tenant, Name: name}]))
	}
	return out
}

// give sends an order that its node has not taken, if the node can be told now.
func (c *Core) give(o *order) {
	a := c.agents[o.node]
	if a == nil || a.gone || c.takenBy(o, a) {
		return
	}
	if o.session == a.session && (o.push != 0 && c.now.Since(o.at) < orderEvery || c.now.Before(o.notYet)) {
		return
	}
	seq, ok := a.echoes.Proven()
	if !ok {
		return
	}
	o.session, o.push, o.pushed, o.at, o.taken = a.session, c.nextID(), o.doc, c.now, nil
	c.dropUnanswered()
	c.unanswered[o.push] = c.now
	c.do(Push{Node: a.name, Session: a.session, ID: o.push, Life: a.life, Tick: seq, Sections: []api.Section{o.section},
		Token: api.Token{ClusterID: c.cfg.ClusterID, Epoch: c.elector.Epoch(), Generation: o.section.Generation}})
	c.after(orderEvery, func() {})
}

func (c *Core) takenBy(o *order, a *agent) bool {
	return o.session == a.session && bytes.Equal(o.taken, o.doc)
}

// orderAnswered takes the answer to a push of an order. It tells whether it was one.
func (c *Core) orderAnswered(a *agent, e AgentApplied) bool {
	for _, o := range append(c.standing.orders[:len(c.standing.orders):len(c.standing.orders)], c.standing.leftover...) {
		if o.push != e.Push || o.session != a.session {
			continue
		}
		o.push, o.failed = 0, ""
		switch e.Code {
		case "ok":
			o.taken = o.pushed
			c.unsettleWaiting()
		case "stale-tick":
		default:
			o.failed, o.notYet = e.Code+": "+e.Detail, c.now.Add(orderEvery)
			c.after(orderEvery, func() {})
		}
		return true
	}
	return false
}

// unsettleWaiting has the steps looked at that wait for an order to be taken.
func (c *Core) unsettleWaiting() {
	for _, d := range c.order {
		if s := d.base(); s.ref.Kind == api.KindProtectedMachine && len(s.runs) > 0 {
			s.dirty = true
		}
	}
}

// unsettled says what an agent has not taken yet of what an owner wants of it; "" if nothing.
func (c *Core) unsettled(a *agent, w *api.AwaitStep) string {
	if c.standing.stale {
		return w.Engine + " is being worked out"
	}
	for _, o := range c.standing.orders {
		if o.node != a.name || o.section.Engine != w.Engine || o.section.Owner != w.Owner {
			continue
		}
		if c.takenBy(o, a) {
			return ""
		}
		if o.failed != "" {
			return fmt.Sprintf("%s: %s: %s", a.name, w.Engine, o.failed)
		}
		return fmt.Sprintf("%s has not taken %s yet", a.name, w.Engine)
	}
	return fmt.Sprintf("%s is to have no %s of %s", a.name, w.Engine, w.Owner)
}

// abandon forgets what nodes have taken: another leader may have told them otherwise since.
func (s *standing) abandon() {
	s.stale, s.leftover, s.said = true, nil, nil
	for _, o := range s.orders {
		o.taken, o.push, o.session = nil, 0, 0
	}
}
