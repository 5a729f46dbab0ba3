package sim

import (
	"time"

	"github.com/understudy-ha/understudy/api"
)

// How two sides hand a machine over at a reprotect: package engines, live/yield.go and site/ship.go.

// The letters' names.
func changedMail(stream string) string { return stream + "/changed" }
func blocksMail(stream string) string  { return stream + "/blocks" }

const handOverEvery = 2 * time.Second

// yieldTurn hands the past over once that is asked for.
func (l *live) yieldTurn() {
	y := l.spec.yield
	if y == nil || l.yielding || l.access != readOnly || l.p.c.home.marks["yield"] == y.Branch {
		return
	}
	l.yielding = true
	l.after(l.w().between(100*time.Millisecond, handOverEvery), func() {
		l.yielding = false
		if now := l.spec.yield; now == nil || now.Branch != y.Branch || l.access != readOnly || l.p.c.home.marks["yield"] == y.Branch {
			return
		}
		l.yield(y)
	})
}

func (l *live) yield(y *api.YieldConfig) {
	e, n := l.w().estate, l.p.c.h.n
	home, into := e.vaults[y.Home.Name], e.vaults[y.Into.Name]
	again := func() { l.yieldTurn() }
	home.ask(n, func(err error) {
		if l.closed || l.p.gone {
			return
		}
		dirty := l.capture.dirty()
		if err == nil {
			err = l.branch(home, y, dirty)
		}
		if err != nil {
			again()
			return
		}
		into.ask(n, func(err error) {
			if l.closed || l.p.gone {
				return
			}
			theirs := into.mail[changedMail(y.For)]
			if err != nil || theirs == nil || l.access != readOnly {
				again()
				return
			}
			mine := &letter{has: map[int]int{}}
			for b := range blocks {
				if theirs.where[b] || dirty[b] {
					mine.where[b], mine.has[b] = true, l.disk[b]
				}
			}
			into.mail[blocksMail(y.For)] = mine
			l.p.c.home.marks["yield"] = y.Branch
			l.w().note(n.m.name, "yields", l.p.c.key, y.Branch)
			l.p.c.changed()
		})
	})
}

// branch writes the dirty blocks as a stream of their own, on top of what is stored of this machine's.
func (l *live) branch(home *vaultModel, y *api.YieldConfig, dirty [blocks]bool) error {
	base := streamBase{kind: "none"}
	if s := home.streams[l.capture.stream]; s != nil {
		if s.seq > 0 {
			base = streamBase{"stream", l.capture.stream, s.seq}
		}
	}
	if home.streams[y.Branch] != nil {
		return nil
	}
	if base.kind == "none" {
		dirty = everything()
	}
	var recs []record
	for b, yes := range dirty {
		if yes {
			recs = append(recs, record{seq: uint64(len(recs) + 1), block: b, value: l.disk[b]})
		}
	}
	e := l.w().estate
	e.points++
	p := point{id: y.Branch, seq: uint64(len(recs) + 1), at: l.p.c.h.n.m.now().Wall, tag: "branch"}
	l.p.c.guest.points[p.id] = *l.disk
	_, err := home.append(y.Branch, l.spec.epoch, base, append(recs, record{seq: p.seq, point: &p}))
	return err
}

// shipTurn begins to ship once that is asked for and can be.
func (p *process) shipTurn(c *api.SiteConfig) {
	if p.again || !p.mustShip() {
		return
	}
	p.again = true
	p.after(p.c.h.n.w.between(100*time.Millisecond, handOverEvery), func() {
		p.again = false
		if p.mustShip() {
			p.ship()
		}
	})
}

// mustShip tells whether shipping is wanted and has not begun, or has begun and this process does not know what the far side has.
func (p *process) mustShip() bool {
	c := p.cfg.section.Site
	if p.live == nil || c == nil || c.Ship == nil || c.Mode != "writable" || !p.runs(c) {
		return false
	}
	return p.c.home.marks["ship"] != c.Capture || c.Ship.Base == "disk" && p.live.capture.gap && p.live.capture.gapFrom <= 1 && p.told == nil
}

// ship finds out what of this machine the far side does not have, marks it as dirty, and starts shipping.
func (p *process) ship() {
	c, e := p.cfg.section.Site, p.c.h.n.w.estate
	l := p.live
	again := func() { p.shipTurn(c) }
	v, into := e.vaults[c.Vault.Name], e.vaults[c.Ship.Into.Name]
	v.ask(p.c.h.n, func(err error) {
		if p.gone || p.live != l {
			return
		}
		if err != nil {
			again()
			return
		}
		into.ask(p.c.h.n, func(err error) {
			if p.gone || p.live != l || p.cfg.section.Site != c {
				again()
				return
			}
			where := everything()
			if err == nil && c.Ship.Base == "stream" {
				where, err = p.parted(v, c)
			}
			if err == nil && c.Ship.Base == "disk" {
				where, err = p.compared(v, into, c)
			}
			if err != nil {
				again()
				return
			}
			if p.c.home.marks["ship"] != c.Capture {
				l.capture.mark(where)
				p.c.home.marks["ship"] = c.Capture
				l.set(p.siteSpec(c))
			}
			l.closeGap()
			p.c.changed()
		})
	})
}

// parted gives what was written since the machine left the stream that it stands on again: in the point's own stream, what was
// compared before that and alike, and here.
func (p *process) parted(v *vaultModel, c *api.SiteConfig) (where [blocks]bool, err error) {
	if _, err := v.view(c.Stream, c.Seq); err != nil {
		return where, err
	}
	theirs := v.mail[blocksMail(c.Stream)]
	if theirs == nil {
		return everything(), nil
	}
	where = v.streams[c.Stream].written(0, c.Seq)
	for b := range blocks {
		where[b] = where[b] || p.c.home.wrote[b] || theirs.where[b]
	}
	return where, nil
}

// compared exchanges letters with the old primary.
func (p *process) compared(v, into *vaultModel, c *api.SiteConfig) (where [blocks]bool, err error) {
	h := p.c.home
	if h.marks["changed"] != c.Capture {
		s := v.streams[c.Stream]
		if s == nil {
			return where, errNoStream
		}
		l := &letter{where: s.written(c.Seq, s.seq)}
		for b := range blocks {
			l.where[b] = l.where[b] || h.wrote[b]
		}
		into.mail[changedMail(c.Capture)] = l
		h.marks["changed"] = c.Capture
	}
	theirs := into.mail[blocksMail(c.Capture)]
	if theirs == nil {
		return where, errNoLetter
	}
	p.told = theirs.has
	where = theirs.where
	for b := range blocks {
		where[b] = where[b] || h.wrote[b]
	}
	return where, nil
}
