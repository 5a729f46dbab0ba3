package controller

import (
	"encoding/json"
	"errors"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/store"
)

// leadSeen is the watch's view of the two documents of the election.
type leadSeen struct{ epoch, beat store.Entry }

func (l leadSeen) seen(fresh bool) lead.Seen {
	s := lead.Seen{EpochRev: l.epoch.Rev, BeatRev: l.beat.Rev, Fresh: fresh}
	// A document that does not parse counts as epoch 0: a campaign overwrites it, at a known revision.
	_ = json.Unmarshal(l.epoch.Value, &s.Epoch)
	_ = json.Unmarshal(l.beat.Value, &s.Beat)
	return s
}

// sawLead takes a watch's delivery of a key of the election.
func (c *Core) sawLead(e store.Entry) {
	switch e.Key {
	case lead.EpochKey:
		c.lead.epoch = e
	case lead.BeatKey:
		c.lead.beat = e
	}
	c.elector.Saw(c.now, c.lead.seen(false))
	c.checkLeading()
}

// electionTurn reads or writes what the election needs now.
func (c *Core) electionTurn() {
	if c.elector.NeedsRead() {
		if c.now.Mono >= c.leadReadNotBefore {
			c.readLead()
		}
		return
	}
	w, again := c.elector.Act(c.now)
	c.checkLeading()
	if w == nil {
		if again < c.cfg.Timing.RenewEvery() {
			c.after(again, func() {})
		}
		return
	}
	c.transact(w.Conds, w.Ops, func(d TxnDone) {
		c.elector.Wrote(c.now, *w, d.Revs, d.Err)
		c.checkLeading()
		if d.Err == nil && c.leading {
			c.renewed()
		}
	})
}

// checkLeading notices that leadership began or ended.
func (c *Core) checkLeading() {
	leads := c.elector.Leads(c.now)
	if leads == c.leading {
		return
	}
	c.leading, c.fresh = leads, false
	c.do(Lead{Leading: leads, Epoch: c.elector.Epoch()})
	for _, a := range c.agents {
		a.echoes.Reset()
	}
	for _, d := range c.order {
		d.abandon()
	}
	c.standing.abandon()
	if leads {
		c.refresh()
	}
}

// guard binds a transaction to this leadership.
func (c *Core) guard(conds ...store.Cond) []store.Cond {
	if mutant.On(mutant.NoGuard) {
		return conds
	}
	return append([]store.Cond{c.elector.Guard()}, conds...)
}

// decidedOn are the kinds that a leader's decisions look at.
var decidedOn = []api.Kind{api.KindProvider, api.KindApplianceGroup, api.KindJob, api.KindProtectedMachine, api.KindRecoveryPlan, api.KindVault,
	api.KindReplicationPolicy, api.KindProcessServer, api.KindSecret}

// refresh reads everything that a leader decides on before it decides anything: what the watch has shown so far may
// be older than what the predecessor did last.
func (c *Core) refresh() {
	epoch := c.elector.Epoch()
	prefixes := []string{"assign/", "request/"}
	for _, k := range decidedOn {
		prefixes = append(prefixes, api.ObjectPrefix(k))
	}
	newer := c.since()
	c.read(nil, prefixes, func(r ReadDone) {
		if !c.leading || c.elector.Epoch() != epoch {
			return
		}
		if r.Err != nil {
			c.after(c.cfg.Timing.RenewEvery(), func() {
				if c.leading && c.elector.Epoch() == epoch {
					c.refresh()
				}
			})
			return
		}
		c.replace(r.Entries, under(prefixes...), newer)
		c.fresh = true
		c.dirtyAll()
	})
}

// unsure handles a guarded transaction that did not succeed: whoever else has led, or whatever else was
// written, is found by reading.
func (c *Core) unsure(err error) {
	if errors.Is(err, store.ErrConflict) {
		c.readLead()
	}
}

// readLead gives the elector a fresh read.
func (c *Core) readLead() {
	if c.leadReads > 0 {
		return
	}
	c.leadReads++
	c.read([]string{lead.EpochKey, lead.BeatKey}, nil, func(r ReadDone) {
		c.leadReads--
		if r.Err != nil {
			c.leadReadNotBefore = c.now.Mono + c.cfg.Timing.RenewEvery()/2
			c.after(c.cfg.Timing.RenewEvery()/2, func() {})
			return
		}
		var l leadSeen
		for _, e := range r.Entries {
			switch e.Key {
			case lead.EpochKey:
				l.epoch = e
			case lead.BeatKey:
				l.beat = e
			}
		}
		c.elector.Saw(c.now, l.seen(true))
		c.checkLeading()
	})
}
