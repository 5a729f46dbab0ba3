package steward

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
)

// errGrantOver is what a section says whose grant has run out.
const errGrantOver = "the grant has run out; a new one is needed"

// left is how long a grant is good for.
func (c *Core) left(owner string) time.Duration {
	since, ok := c.holder.Grants()[owner]
	if !ok {
		return 0
	}
	return max(0, c.cfg.Timing.Hold()-c.now.AtMostSince(since))
}

// expire gives up what is held under grants that have run out. It comes first in every step.
func (c *Core) expire() {
	expired := c.holder.Expired(c.now)
	slices.Sort(expired)
	for _, owner := range expired {
		delete(c.rounds, owner)
		delete(c.backstop, owner)
		if s := c.sections[lead.SectionKey(api.EngineAddresses, owner)]; s != nil {
			s.err, s.retryAt, s.applyN = errGrantOver, clock.Instant{}, 0
		}
		c.drop(owner)
		c.dirty = true
	}
	if len(expired) == 0 {
		return
	}
	c.storeGrants()
	for _, owner := range expired { // an answer that still comes is an answer to an older wish: nobody must wait for it
		c.settle(lead.SectionKey(api.EngineAddresses, owner), errors.New(errGrantOver))
	}
}

// drop takes an owner's addresses away. Until the engine says that they are gone, the owner counts as held.
func (c *Core) drop(owner string) {
	c.undropped[owner] = c.now.Add(redropEvery)
	c.do(Drop{Owner: owner})
}

func (c *Core) dropped(e Dropped) {
	if e.Err == nil {
		delete(c.undropped, e.Owner)
		c.dirty = true
	}
}

// echoed renews grants. An echo is judged like a push of nothing, so that one of an older leadership renews nothing.
func (c *Core) echoed(e Echoed) {
	sent := c.sentAt(e.Life, e.Seq)
	token := api.Token{ClusterID: e.Cluster, Epoch: e.Epoch}
	if err := c.gate.Admit(c.now, sent, token, c.proven(e.Session, e.Cluster), nil); err != nil {
		return
	}
	before := c.holder.Grants()
	c.holder.Echoed(sent, e.Renews)
	c.renewSince(before)
	c.confirm(e.Renews)
}

// confirm tells engines, once, that a leader of this life stands by what they were told in an earlier one.
func (c *Core) confirm(owners []string) {
	for _, key := range slices.Sorted(maps.Keys(c.sections)) {
		s := c.sections[key]
		if !s.confirmed && runsApart(s.want) && slices.Contains(owners, s.want.Owner) {
			s.confirmed = true
			c.apply(s)
		}
	}
}

// renewSince gives the engines the time that grants have gained.
func (c *Core) renewSince(before map[string]clock.Instant) {
	after := c.holder.Grants()
	for _, owner := range slices.Sorted(maps.Keys(after)) {
		if before[owner] != after[owner] {
			c.renew(owner)
		}
	}
	c.storeGrants()
}

func (c *Core) renew(owner string) {
	left := c.left(owner)
	c.backstop[owner] = c.now.Add(left.Truncate(time.Second))
	c.do(Renew{Owner: owner, Valid: left})
}

// early is how long before a whole second is left that the backstop is set again.
const early = 20 * time.Millisecond

// refresh sets the kernel's own end of addresses anew where that moves it closer to the end of the grant. The kernel
// counts whole seconds, rounded down; set once, it could end an address that the agent may still hold for most of a second.
func (c *Core) refresh() {
	for _, owner := range slices.Sorted(maps.Keys(c.holder.Grants())) {
		end := c.now.Add(c.left(owner).Truncate(time.Second))
		if set, ok := c.backstop[owner]; ok && c.left(owner) >= time.Second && end.Since(set) > early/2 {
			c.renew(owner)
		}
	}
}

// untilRefresh is when refresh gains most.
func (c *Core) untilRefresh(owner string) time.Duration {
	if d := c.left(owner) % time.Second; d > early {
		return d - early
	}
	return time.Second
}

// storeGrants puts the grants on disk if they changed.
func (c *Core) storeGrants() {
	since := c.holder.Grants()
	if c.grantsOnDisk == nil || !maps.Equal(since, c.grantsOnDisk) {
		c.grantsOnDisk = since
		c.do(StoreGrants{Grants{Boot: c.cfg.Boot, Since: maps.Clone(since)}})
	}
}

// round of promises for one owner.
type round struct {
	n     uint64
	asked clock.Instant
	// need are the candidates that have not promised yet.
	need map[string]bool
}

// askForPromises starts rounds for grants that no leader renews any more. A leader that is in touch and does not
// renew means it; then nobody is asked.
func (c *Core) askForPromises() {
	if c.holder.InTouch(c.now) {
		return
	}
	due := c.holder.MustAsk(c.now)
	slices.Sort(due)
	for _, owner := range due {
		if r := c.rounds[owner]; r != nil && c.now.Since(r.asked) < c.cfg.Timing.TickEvery() {
			continue
		}
		c.ask(owner)
	}
}

// ask asks every other candidate. Without knowing them all nothing can be promised.
func (c *Core) ask(owner string) {
	s := c.sections[lead.SectionKey(api.EngineAddresses, owner)]
	if s == nil {
		return
	}
	c.lastRound++
	r := &round{n: c.lastRound, asked: c.now, need: map[string]bool{}}
	c.rounds[owner] = r
	for _, name := range slices.Sorted(maps.Keys(s.want.Addresses.Candidates)) {
		r.need[name] = true
		if address := s.want.Addresses.Candidates[name]; address != "" {
			c.do(Ask{Round: r.n, Owner: owner, Candidate: name, Address: address})
		}
	}
}

func (c *Core) answered(e Answered) {
	r := c.rounds[e.Owner]
	if r == nil || r.n != e.Round || !e.Promised {
		return
	}
	delete(r.need, e.Candidate)
	if len(r.need) > 0 {
		return
	}
	before := c.holder.Grants()
	c.holder.AllPromised(r.asked, e.Owner)
	c.renewSince(before)
}

// asked answers another candidate.
func (c *Core) asked(e Asked) {
	a := Answer{ID: e.ID, Promised: c.holder.Promise(c.now, e.Owner)}
	if !a.Promised {
		a.Reason = "this node holds the grant, or a leader is in touch with it"
	}
	c.do(a)
}
