package steward

import (
	"errors"
	"reflect"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/wire"
)

// maxQueue pushes wait for their turn; one more is refused, and the leader tries again.
const maxQueue = 32

// push is a Pushed on its way.
type push struct {
	Pushed
	// granted lists owners whose grant came with this push.
	granted []string
	// store is the Store that must be done first; 0: none, or done.
	store uint64
	// waits lists the sections whose engine has not answered, failed what it said.
	waits  map[string]bool
	failed error
}

func (c *Core) pushed(e Pushed) {
	if len(c.queue) >= maxQueue {
		c.answer(e, wire.CodeFailed, "too many pushes wait")
		return
	}
	c.queue = append(c.queue, &push{Pushed: e})
	if len(c.queue) == 1 {
		c.begin()
	}
}

// begin works on the first push of the queue, and on those behind it that need no waiting.
func (c *Core) begin() {
	for len(c.queue) > 0 {
		p := c.queue[0]
		if code, detail := c.admit(p); code != wire.CodeOK {
			c.finish(code, detail)
			continue
		}
		next := c.onDisk.clone()
		next.Gate = c.gate.State()
		if next.Sections == nil {
			next.Sections = map[string]Kept{}
		}
		for _, s := range p.Sections {
			next.Sections[lead.SectionKey(s.Engine, s.Owner)] = Kept{s, stamp(p.Token, s), secretsOf(s, p.Secrets)}
		}
		if !reflect.DeepEqual(next, c.onDisk.clone()) {
			p.store = c.store(next)
			return
		}
		if c.run(p); len(p.waits) > 0 {
			return
		}
	}
}

// stamp gives the token under which a section takes effect.
func stamp(t api.Token, s api.Section) api.Token {
	t.Generation = s.Generation
	return t
}

// admit judges a push and takes the grants that come with it.
func (c *Core) admit(p *push) (code, detail string) {
	if p.Malformed != "" {
		return wire.CodeInvalid, p.Malformed
	}
	for _, s := range p.Sections {
		if err := check(s); err != nil {
			return wire.CodeInvalid, err.Error()
		}
	}
	if err := c.allowed(p); err != nil {
		return codeOf(err), err.Error()
	}
	sent := c.sentAt(p.Life, p.Tick)
	for _, s := range p.Sections {
		if !holdsAny(s) {
			continue
		}
		held := c.holder.Holds(c.now, s.Owner)
		if c.holder.Grant(c.now, sent, s.Owner) {
			return wire.CodeWait, "this node promised to take no grant of " + s.Owner
		}
		if !held {
			p.granted = append(p.granted, s.Owner)
		}
	}
	return wire.CodeOK, ""
}

// allowed asks the gate.
func (c *Core) allowed(p *push) error {
	return c.gate.Admit(c.now, c.sentAt(p.Life, p.Tick), p.Token, c.proven(p.Session, p.Token.ClusterID), p.Sections)
}

func codeOf(err error) string {
	for _, r := range []struct {
		err  error
		code string
	}{
		{lead.ErrStaleTick, wire.CodeStaleTick}, {lead.ErrOldEpoch, wire.CodeOldEpoch}, {lead.ErrOldGeneration, wire.CodeOldGeneration},
		{lead.ErrOldCluster, wire.CodeOldCluster}, {lead.ErrClusterUnproven, wire.CodeUnproven},
	} {
		if errors.Is(err, r.err) {
			return r.code
		}
	}
	return wire.CodeFailed
}

// store asks for the state to be put on disk.
func (c *Core) store(s State) uint64 {
	c.stores++
	c.onDisk = s
	c.do(Store{N: c.stores, State: s.clone()})
	return c.stores
}

// storeDone goes on with the push that waited for the disk. While the disk took its time, the push may have become
// stale: then it is taken off the disk again.
func (c *Core) storeDone(e Stored) {
	if len(c.queue) == 0 || c.queue[0].store != e.N {
		return
	}
	p := c.queue[0]
	p.store = 0
	err := e.Err
	code := wire.CodeFailed
	if err == nil {
		err = c.allowed(p)
		code = codeOf(err)
	}
	if err != nil {
		c.withdraw()
		c.finish(code, err.Error())
		c.begin()
		return
	}
	if c.run(p); len(p.waits) == 0 {
		c.begin()
	}
}

// withdraw puts on disk again what the engines have.
func (c *Core) withdraw() {
	s := State{Version: StateVersion, Gate: c.gate.State(), Sections: map[string]Kept{}}
	for key, sec := range c.sections {
		s.Sections[key] = Kept{sec.want, sec.token, sec.secrets}
	}
	c.store(s)
}

// run gives the sections of the first push to their engines.
func (c *Core) run(p *push) {
	p.waits = map[string]bool{}
	for _, s := range p.Sections {
		key := lead.SectionKey(s.Engine, s.Owner)
		sec := c.sections[key]
		if sec == nil {
			sec = &section{}
			c.sections[key] = sec
		}
		sec.want, sec.token, sec.secrets, sec.confirmed = s, stamp(p.Token, s), secretsOf(s, p.Secrets), true
		sec.state = nil // what was said of the section before says nothing of this one
		p.waits[key] = true
	}
	c.storeGrants()
	for _, s := range p.Sections {
		c.apply(c.sections[lead.SectionKey(s.Engine, s.Owner)])
	}
	if len(p.waits) == 0 {
		c.finish(wire.CodeOK, "")
	}
}

// apply gives one section to its engine.
func (c *Core) apply(s *section) {
	s.retryAt = c.now.Add(retryEvery) // also if the engine does not answer
	c.applies++
	s.applyN = c.applies
	e := Apply{N: s.applyN, Section: s.want, Confirmed: s.confirmed, Secrets: s.secrets}
	if holdsAny(s.want) {
		e.Valid = c.left(s.want.Owner)
		c.backstop[s.want.Owner] = c.now.Add(e.Valid.Truncate(time.Second))
	}
	c.do(e)
}

// applied takes an engine's answer.
func (c *Core) applied(e Applied) {
	key := lead.SectionKey(e.Engine, e.Owner)
	s := c.sections[key]
	if s == nil || s.applyN != e.N {
		return // an answer to an older wish
	}
	c.took(s, e.Err)
	if e.Err == nil && e.Engine == api.EngineAddresses && !holdsAny(s.want) {
		c.holder.Release(e.Owner) // they are gone from the kernel
		delete(c.undropped, e.Owner)
		c.storeGrants()
	}
	c.settle(key, e.Err)
}

// settle tells the push that is being worked on how a section of it fared.
func (c *Core) settle(key string, err error) {
	if len(c.queue) == 0 || !c.queue[0].waits[key] {
		return
	}
	p := c.queue[0]
	delete(p.waits, key)
	p.failed = errors.Join(p.failed, err)
	if len(p.waits) > 0 {
		return
	}
	if p.failed != nil {
		c.finish(wire.CodeFailed, p.failed.Error())
	} else {
		c.finish(wire.CodeOK, "")
	}
	c.begin()
}

// took notes in a section how its engine took it.
func (c *Core) took(s *section, err error) {
	was := s.status()
	if err == nil {
		s.applied, s.err = s.token, ""
		s.retryAt = clock.Instant{}
	} else {
		s.err = err.Error()
	}
	c.dirty = c.dirty || was != s.status()
}

// finish answers the first push and takes it out of the queue.
func (c *Core) finish(code, detail string) {
	p := c.queue[0]
	c.queue = c.queue[1:]
	c.answer(p.Pushed, code, detail)
	if code == wire.CodeOK || p.waits != nil {
		return
	}
	for _, owner := range p.granted { // nothing was done under it
		c.holder.Release(owner)
	}
}

func (c *Core) answer(e Pushed, code, detail string) {
	c.do(SendApplied{Session: e.Session, Push: e.ID, Code: code, Detail: detail})
}
