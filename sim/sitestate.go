package sim

import (
	"time"

	"github.com/understudy-ha/understudy/api"
)

// answering is how the machine's service is.
type answering struct {
	asked bool
	yes   bool
}

// answer waits for the service: it comes up some time after the virtual machine.
func (p *process) answer(c *api.SiteConfig) {
	if c.Mode != "writable" || c.VM != nil && !c.Run {
		p.answers = answering{}
		return
	}
	if c.Check == nil || p.answers.asked {
		return
	}
	p.answers.asked = true
	w := p.c.h.n.w
	d := w.between(time.Second, 15*time.Second)
	if w.chance(w.faulty(0.1)) {
		d = w.between(time.Minute, 6*time.Minute) // it recovers first
	}
	p.after(d, func() {
		if p.answers.asked = false; p.live == nil {
			return
		}
		if p.live.runs() {
			p.answers.yes = true
			p.c.changed()
			return
		}
		if cur := p.cfg.section.Site; cur != nil {
			p.answer(cur)
		}
	})
}

func (p *process) siteState(c *api.SiteConfig, s *api.EngineState) {
	s.Phase, s.Instance = "opening", c.Instance
	ending := c.Mode == "off" || c.Mode == "discard"
	switch {
	case p.live != nil && !ending && p.runs(c):
		p.live.describe(s)
		if s.Hydrated = 50; p.c.home.marks["hydrated"] != "" {
			s.Hydrated = 100
		}
		p.sitePhase(c, s)
	case ending && p.ended == "":
		s.Phase = "stopping"
	case p.ended != "":
		if s.Phase = p.ended; p.ended == "yielded" {
			s.Done = p.c.home.marks["yield"]
		}
	case p.failing():
		s.Phase = "failed"
	}
}

func (p *process) sitePhase(c *api.SiteConfig, s *api.EngineState) {
	if s.Phase == "readonly" || s.Phase == "yielded" || s.Phase == "waiting" {
		return
	}
	switch {
	case c.VM == nil && !p.answers.yes:
		s.Phase = "running"
	case c.VM != nil && !c.Run && p.c.vm:
		s.Phase = "stopping"
	case c.VM != nil && !c.Run:
		s.Phase = "stopped"
	case p.answers.yes:
		s.Phase = "answering"
	case c.Check != nil || c.VM != nil && !p.c.vm:
		s.Phase = "booting"
	default:
		s.Phase = "running"
	}
	if s.Phase == "answering" || s.Phase == "running" && (c.VM == nil || p.c.vm) {
		p.c.h.n.w.estate.cameUp(p.c, c.Instance)
	}
}
