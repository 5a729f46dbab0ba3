package sim

import (
	"errors"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// home is an engine's directory.
type home struct {
	config engineConfig
	marks  map[string]string
	disk   image        // of a site's run, unless it is in place
	wrote  [blocks]bool // what was written since the run began
	cap    *capture     // nil: there is none yet
	spools map[string]*spool
}

// process is an engine at work. What it knows is gone with it.
type process struct {
	c      *child
	gone   bool
	asked  asking // what it was asked for last
	busy   bool
	cfg    engineConfig // that was taken up last, or is being
	failed error
	since  time.Duration // of failed
	retry  time.Duration

	live    *live
	off     bool   // a protect engine has let go of its disks
	ended   string // how a site's run ended
	answers answering
	told    map[int]int // what the far side has, by its letter
	again   bool        // a look at shipping is due
}

// asking is a revision of the config in a life of the agent.
type asking struct{ rev, life int }

const (
	firstRetry = 250 * time.Millisecond
	maxRetry   = 5 * time.Second
	// failedAfter is how long a config may fail to be taken up before that counts as a failure.
	failedAfter = 30 * time.Second
)

// launch starts the process, unless there is one: it takes up what its home says.
func (c *child) launch() {
	if c.proc != nil || c.home == nil {
		return
	}
	c.proc = &process{c: c, retry: firstRetry}
	for _, s := range c.home.spools {
		s.busy = false
	}
	c.h.n.w.note(c.h.n.m.name, "is up", c.key)
	c.proc.kick()
	c.changed()
}

// end ends the process: what it held in memory is lost, what it held open is closed. A virtual machine goes on.
func (p *process) end() {
	if p.gone {
		return
	}
	p.gone = true
	p.c.proc = nil
	p.close()
	p.c.changed()
}

// after runs f in the process.
func (p *process) after(d time.Duration, f func()) {
	p.c.h.after(d, func() {
		if !p.gone {
			f()
		}
	})
}

// set has the newest config taken up.
func (p *process) set(a asking) {
	p.asked = a
	p.kick()
}

func (p *process) kick() {
	if p.busy {
		return
	}
	p.busy = true
	asked := p.asked
	p.cfg = p.c.home.config
	p.take(func(err error) {
		p.busy = false
		if err != nil && p.failed == nil {
			p.since = p.c.h.n.w.now
		}
		p.failed = err
		if asked.life == p.c.h.n.m.life {
			p.c.taken = asked.rev
		}
		if err == nil {
			p.retry = firstRetry
		} else {
			p.c.h.n.w.note(p.c.h.n.m.name, "cannot", p.c.key, err.Error())
			p.after(p.retry, p.kick)
			p.retry = min(2*p.retry, maxRetry)
		}
		if asked != p.asked {
			p.kick()
		}
		p.c.changed()
	})
}

// take works towards the config, which may take its time; done follows, once.
func (p *process) take(done func(error)) {
	switch s := p.cfg.section; {
	case s.Protect != nil:
		p.takeProtect(s.Protect, done)
	case s.Site != nil:
		p.takeSite(s.Site, done)
	default:
		p.takeService()
		done(nil)
	}
}

func (p *process) takeProtect(c *api.ProtectConfig, done func(error)) {
	if c.Mode == "off" || c.Mode == "discard" {
		p.stopVM(c.StopTimeout.D(), func() {
			p.close()
			p.off = true
			done(nil)
		})
		return
	}
	s := p.protectSpec(c)
	if l := p.live; l != nil && (l.spec.access == readOnly && c.Mode == "writable" || l.spec.stream != s.stream) {
		if !p.cfg.confirmed && s.access != readOnly && l.access == writable {
			done(errUnconfirmed)
			return
		}
		p.close()
	}
	p.off = false
	if p.live == nil {
		if p.c.h.taken(p.c.h.disks[c.UID]) {
			done(errDiskTaken)
			return
		}
		p.open(s, p.c.h.disks[c.UID], true)
	}
	if c.Restart != "" && p.c.home.marks["restart"] != c.Restart {
		p.live.addDirty(everything())
		p.c.home.marks["restart"] = c.Restart
	}
	p.live.set(s)
	done(nil)
}

var errUnconfirmed = errors.New("no leader said that it still may be written")

func (p *process) protectSpec(c *api.ProtectConfig) liveSpec {
	s := liveSpec{stream: c.Stream, epoch: p.cfg.section.Generation, vm: c.VM != nil, run: c.Run, grace: c.StopTimeout.D(), servers: c.ProcessServers,
		crashEvery: c.CrashEvery.D(), pointNow: c.PointNow, yield: c.Yield}
	switch {
	case c.Mode == "readonly":
		s.access = readOnly
	case p.cfg.confirmed:
		s.access = writable
	}
	return s
}

// state is what the process says of itself.
func (p *process) state() api.EngineState {
	s := api.EngineState{}
	switch c := p.cfg.section; {
	case c.Protect != nil:
		s.Phase = "opening"
		switch {
		case p.live != nil:
			p.live.describe(&s)
		case p.off:
			s.Phase = map[string]string{"off": "off", "discard": "discarded"}[c.Protect.Mode]
		case p.failing():
			s.Phase = "failed"
		}
	case c.Site != nil:
		p.siteState(c.Site, &s)
	case c.ProcessServer != nil:
		s.Phase = "serving"
	default:
		s.Phase = "keeping"
	}
	return s
}

// failing tells that the config could not be taken up for so long that it counts as a failure.
func (p *process) failing() bool {
	return p.failed != nil && p.c.h.n.w.now-p.since > failedAfter
}

// close lets go of the disks.
func (p *process) close() {
	if l := p.live; l != nil {
		l.closed = true
		l.capture.interrupted()
		for _, v := range p.c.h.n.w.estate.vaults {
			delete(v.pins, p.c.pinKey())
		}
	}
	p.live, p.told = nil, nil
}
