package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
)

// spool is what a process server has of one stream and the vault has not. It lies on its disk.
type spool struct {
	epoch int64
	recs  []record
	seq   uint64 // newest, here or in the vault
	busy  bool
}

// takeService takes up the config of a process server or a keeper.
func (p *process) takeService() {
	switch h := p.c.home; {
	case p.cfg.section.ProcessServer != nil:
		if h.spools == nil {
			h.spools = map[string]*spool{}
		}
		for _, a := range p.cfg.section.ProcessServer.Streams {
			p.drain(a.Stream)
		}
	case !p.again:
		p.again = true
		p.keep()
	}
}

// keepEvery is the time between a keeper's rounds: shorter than the product's, as worlds are short.
const keepEvery = 20 * time.Second

// keep makes a keeper's rounds.
func (p *process) keep() {
	p.after(p.c.h.n.w.between(keepEvery/2, keepEvery), func() {
		if k := p.cfg.section.Keeper; k != nil {
			v := p.c.h.n.w.estate.vaults[k.Vault.Name]
			v.ask(p.c.h.n, func(err error) {
				if p.gone || err != nil {
					return
				}
				for _, s := range p.cfg.section.Keeper.Streams {
					v.prune(s)
				}
			})
		}
		p.keep()
	})
}

// accepts finds what was said of a stream that a node ships under a generation.
func (p *process) accepts(id, node string, epoch int64) (api.AcceptedStream, bool) {
	if c := p.cfg.section.ProcessServer; c != nil {
		for _, a := range c.Streams {
			if a.Stream == id && a.Node == node && epoch >= a.Epoch {
				return a, true
			}
		}
	}
	return api.AcceptedStream{}, false
}

// receive takes what a node ships, and tells how far it and the vault are:
// what follows after something that is not here is not taken.
func (p *process) receive(id, node string, epoch int64, after uint64, recs []record) (spooled, stored uint64, ok bool) {
	a, ok := p.accepts(id, node, epoch)
	if !ok {
		return 0, 0, false
	}
	s := p.c.home.spools[id]
	if v := p.c.h.n.w.estate.vaults[a.Vault.Name].streams[id]; v != nil {
		stored = v.seq
	}
	if s == nil {
		s = &spool{seq: stored}
		p.c.home.spools[id] = s
	}
	if s.epoch > epoch {
		return 0, 0, false
	}
	s.epoch = epoch
	for _, r := range recs {
		if r.seq > s.seq && s.seq >= after {
			s.recs, s.seq = append(s.recs, r), r.seq
		}
	}
	p.drain(id)
	return s.seq, stored, true
}

// drain brings what is spooled into the vault.
func (p *process) drain(id string) {
	s, n := p.c.home.spools[id], p.c.h.n
	if s == nil || s.busy || len(s.recs) == 0 {
		return
	}
	s.busy = true
	p.c.h.after(n.w.between(100*time.Millisecond, 700*time.Millisecond), func() {
		s.busy = false
		if p.gone {
			return // the next process finds it
		}
		i := slices.IndexFunc(p.cfg.section.ProcessServer.Streams, func(a api.AcceptedStream) bool { return a.Stream == id })
		if i < 0 {
			return // it stays here
		}
		a := p.cfg.section.ProcessServer.Streams[i]
		v, epoch, recs := n.w.estate.vaults[a.Vault.Name], s.epoch, slices.Clone(s.recs)
		s.busy = true
		v.ask(n, func(err error) {
			s.busy = false
			stored := uint64(0)
			if err == nil {
				stored, err = v.append(id, epoch, streamBase{a.Base, a.BaseStream, a.BaseSeq}, recs)
			}
			if err == errFenced {
				n.w.note(n.m.name, "is fenced", id)
				return
			}
			s.recs = slices.DeleteFunc(s.recs, func(r record) bool { return r.seq <= stored })
			p.drain(id)
		})
	})
}

// sendEvery is the longest pause between messages of a sender that is not done.
const sendEvery = 2 * time.Second

// send ships what is queued, and asks how far the vault is, until it has everything.
func (l *live) send() {
	if !l.shipping || l.sending || l.closed || len(l.capture.queue) == 0 && l.capture.stored >= l.capture.seq {
		return
	}
	l.sending = true
	n, w := l.p.c.h.n, l.w()
	l.after(w.between(sendEvery/4, sendEvery), func() {
		l.sending = false
		if !l.shipping {
			return
		}
		to := w.estate.server(l.spec.servers[0])
		id, epoch := l.capture.stream, l.spec.epoch
		after, recs := l.capture.released, slices.Clone(l.capture.queue)
		l.sending = true
		w.after(w.net.latency(n.at, to.at)+w.net.latency(to.at, n.at), func() { l.sent(to, id, epoch, after, recs) })
	})
}

// sent is one exchange: what arrives is taken, what is answered may be lost.
func (l *live) sent(to *node, id string, epoch int64, after uint64, recs []record) {
	n, w := l.p.c.h.n, l.w()
	if l.p.gone || l.closed {
		return
	}
	l.sending = false
	there := to.house.on && to.m.power != suspended && n.m.power != suspended
	if c := to.house.server(); there && c != nil && c.proc != nil && !w.net.lost(n.at, to.at) {
		spooled, stored, ok := c.proc.receive(id, n.name, epoch, after, recs)
		if ok && !w.net.lost(to.at, n.at) && l.capture.stream == id && l.spec.epoch == epoch {
			l.answered(spooled, stored)
		}
	}
	l.send()
}

func (l *live) answered(spooled, stored uint64) {
	if spooled < l.capture.released { // the spool is gone
		l.capture.interrupted()
		l.closeGap()
	}
	before := l.capture.stored
	l.capture.taken(spooled, stored)
	if l.capture.stored != before {
		l.p.c.changed()
	}
}

// server gives the process server's engine of a node.
func (h *house) server() *child {
	for _, c := range h.kids {
		if strings.HasPrefix(c.key, lead.SectionKey(api.EngineProcessServer, "")) {
			return c
		}
	}
	return nil
}

// server finds the node at a process server's address.
func (e *estate) server(address string) *node {
	name, _, _ := strings.Cut(address, ".")
	for _, n := range e.w.nodes {
		if n.m.name == name {
			return n
		}
	}
	panic(fmt.Sprintf("sim: no process server at %s", address))
}
