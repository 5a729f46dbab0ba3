package sim

import (
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/lead"
)

// house is what a node has besides its agent: raw disks and engines' homes, which outlive everything, and processes and
// virtual machines, which outlive the agent and end with the power.
type house struct {
	n     *node
	on    bool
	boot  int
	disks map[string]*image // a source's own, by the machine's UID
	kids  []*child          // in the order in which they were first wanted
}

// after runs f once d has passed, unless the power goes first. While the machine is suspended nothing of it happens.
func (h *house) after(d time.Duration, f func()) {
	boot := h.boot
	var run func()
	run = func() {
		switch {
		case h.boot != boot:
		case h.n.m.power == suspended:
			h.n.m.asleep = append(h.n.m.asleep, run)
		default:
			f()
		}
	}
	h.n.w.after(d, run)
}

// cut takes the power away: the agent, the engines and the virtual machines are gone, what is on disks stays.
func (h *house) cut() {
	if !h.on {
		return
	}
	h.on = false
	h.boot++
	h.n.w.note(h.n.m.name, "power cut")
	h.n.crash()
	for _, c := range h.kids {
		c.vm = false
		if c.proc != nil {
			c.proc.end()
		}
	}
}

// restore brings the machine up by itself: its agent starts, and does what it did last.
func (h *house) restore() {
	if h.on {
		return
	}
	h.on = true
	h.n.w.note(h.n.m.name, "power back")
	if h.n.m.power == off {
		h.n.start()
	}
}

// child is one engine of a node: its home, its process if one runs, and how the agent looks after it.
type child struct {
	h     *house
	key   string
	guest *guest // nil for process servers and keepers
	drill bool
	home  *home
	proc  *process
	vm    bool // the machine's virtual machine runs
	// old is since when it runs what is old, in touch with a leader.
	old time.Duration
	seat
}

// seat is the agent's part: it ends with the agent's life.
type seat struct {
	want                       engineConfig
	rev, written, taken, tells int
	ended, due                 bool
	last                       api.EngineState
	restarts                   int
}

// engineConfig is what an agent leaves in an engine's home.
type engineConfig struct {
	section   api.Section
	confirmed bool
}

// set makes an engine work towards a section.
func (h *house) set(s api.Section, confirmed bool) {
	key := lead.SectionKey(s.Engine, s.Owner)
	c := h.kid(key)
	if c == nil {
		c = &child{h: h, key: key}
		c.guest, c.drill = h.n.w.estate.guest(s.Owner)
		h.kids = append(h.kids, c)
	}
	c.want = engineConfig{s, confirmed}
	c.rev++
	c.lookIn(h.n.w.between(time.Millisecond, 20*time.Millisecond))
}

func (h *house) kid(key string) *child {
	for _, c := range h.kids {
		if c.key == key {
			return c
		}
	}
	return nil
}

// begin starts a new life of the agent: it knows of no process yet.
func (h *house) begin() {
	for _, c := range h.kids {
		c.seat = seat{}
	}
}

// lookIn has the agent look after the engine soon; askEvery is the longest that it waits by itself.
func (c *child) lookIn(d time.Duration) {
	if c.rev == 0 || c.due || c.h.n.m.power == off {
		return
	}
	c.due = true
	c.h.n.m.after(d, func(bool) {
		c.due = false
		c.look()
	})
}

const askEvery = 500 * time.Millisecond

// changed tells the agent, at its next look, that the process has something to say.
func (c *child) changed() { c.lookIn(c.h.n.w.upTo(askEvery)) }

// look is what package agent does with an engine's process: leaves the config, starts it, has it taken up, passes on its state.
func (c *child) look() {
	w, again := c.h.n.w, askEvery
	if c.rev != c.written {
		c.ended = false
		if discards(c.want.section) && c.home == nil {
			c.written, c.ended = c.rev, true
			s := api.EngineState{Phase: "discarded"}
			if c.want.section.Site != nil {
				s.Instance = c.want.section.Site.Instance
			}
			c.say(s)
			return
		}
		if c.home == nil {
			c.home = &home{marks: map[string]string{}}
		}
		c.home.config, c.written = c.want, c.rev
	}
	switch {
	case c.ended && discards(c.want.section):
		if c.proc == nil {
			c.home = nil
			return
		}
	case c.ended:
		return
	case c.proc == nil:
		c.restarts++
		w.note(c.h.n.m.name, "starts", c.key)
		c.h.after(w.between(30*time.Millisecond, 400*time.Millisecond), func() { c.launch() })
		again = min(100*time.Millisecond<<min(c.restarts, 6), 5*time.Second) + 500*time.Millisecond
	case c.rev != c.taken:
		if a := (asking{c.rev, c.h.n.m.life}); c.proc.asked != a {
			c.proc.set(a)
		}
		if s := c.proc.state(); s.Phase != c.last.Phase {
			c.say(s) // it says how it is meanwhile
		}
	default:
		c.restarts = 0
		s := c.proc.state()
		if c.tells != c.rev || !sameState(s, c.last) {
			c.tells = c.rev
			c.say(s)
		}
		if !over(c.want.section, s) {
			return
		}
		c.ended = true
		c.proc.end()
	}
	c.lookIn(again)
}

// say passes on what a process says.
func (c *child) say(s api.EngineState) {
	c.last = s
	c.h.n.w.note(c.h.n.m.name, "says", c.key, s.Phase, s.Instance, s.Done, s.LastPoint)
	c.h.n.said(c.want.section, s)
}

// discards tells whether nothing of the engine is to be left.
func discards(s api.Section) bool {
	return s.Site != nil && s.Site.Mode == "discard" || s.Protect != nil && s.Protect.Mode == "discard"
}

// over tells whether the engine has nothing left to do.
func over(want api.Section, s api.EngineState) bool {
	switch {
	case want.Protect != nil:
		return want.Protect.Mode == "off" && s.Phase == "off" || want.Protect.Mode == "discard" && s.Phase == "discarded"
	case want.Site != nil:
		return want.Site.Mode != "writable" && (s.Phase == "stopped" || s.Phase == "discarded")
	}
	return false
}

func sameState(a, b api.EngineState) bool {
	return a.Phase == b.Phase && a.Done == b.Done && a.Protection == b.Protection && a.Stored == b.Stored && a.LastPoint == b.LastPoint &&
		a.LastPointSeq == b.LastPointSeq && a.Instance == b.Instance && a.Stream == b.Stream && a.Hydrated == b.Hydrated
}
