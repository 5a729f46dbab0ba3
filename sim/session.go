package sim

import (
	"slices"
	"time"

	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/steward"
)

// session is an agent's stream to one controller. Messages come in order; when it breaks, those under way are lost
// and each side learns of it in its own time.
type session struct {
	id       uint64 // unique, growing
	h        *host
	a        *node
	hLife    int
	aLife    int
	up, down *flow
	watched  bool
}

// connect opens a session if both processes run and the network lets them.
func (w *world) connect(a *node, h *host) {
	if h.m.power != running || !w.net.open(a.at, h.at) || !w.net.open(h.at, a.at) {
		return
	}
	w.sessionID++
	s := &session{id: w.sessionID, h: h, a: a, hLife: h.m.life, aLife: a.m.life}
	s.up = &flow{n: w.net, a: a.at, b: h.at}
	s.down = &flow{n: w.net, a: h.at, b: a.at}
	h.sessions = append(h.sessions, s)
	a.sessions[h.index] = s
	w.sessions = append(w.sessions, s)
	a.opened(s)
}

// broken ends the session; both sides hear of it unless they are gone.
func (s *session) broken() {
	if s.forget() {
		s.up.cut()
		s.down.cut()
		s.h.w.after(s.h.w.upTo(300*time.Millisecond), s.closedBelow)
		s.h.w.after(s.h.w.upTo(2*time.Second), s.closedAbove)
	}
}

// ended is the end of a session whose one side ended: what that side had sent still arrives before the news.
func (s *session) ended(by *machine) {
	if !s.forget() {
		return
	}
	if by == s.h.m {
		s.up.cut()
		s.down.end(s.closedBelow)
	} else {
		s.down.cut()
		s.up.end(s.closedAbove)
	}
}

// forget takes the session off the world's list, once.
func (s *session) forget() bool {
	w := s.h.w
	i := slices.Index(w.sessions, s)
	if i >= 0 {
		w.sessions = slices.Delete(w.sessions, i, i+1)
	}
	return i >= 0
}

func (s *session) closedBelow() { s.a.m.by(s.id, s.aLife, func(bool) { s.a.closed(s) }) }

func (s *session) closedAbove() {
	s.h.m.by(s.id, s.hLife, func(bool) {
		s.h.sessions = slices.DeleteFunc(s.h.sessions, func(o *session) bool { return o == s })
		s.h.step(controller.AgentGone{Node: s.a.name, Session: s.id})
	})
}

// impaired tells whether the session cannot carry messages both ways now.
func (s *session) impaired() bool {
	w := s.h.w
	return s.h.m.life != s.hLife || s.a.m.life != s.aLife || s.h.m.power != running || s.a.m.power != running || !w.net.open(s.a.at, s.h.at) || !w.net.open(s.h.at, s.a.at)
}

// sessionsChanged looks at every session after a fault: one that stays impaired for a while breaks.
func (w *world) sessionsChanged() {
	for _, s := range w.sessions {
		if s.watched || !s.impaired() {
			continue
		}
		s.watched = true
		w.after(w.keepalive+w.upTo(2*time.Second), func() {
			s.watched = false
			if s.impaired() {
				s.broken()
			}
		})
	}
}

// sessionsLost breaks the sessions of a process that ended, at once where the network still carries the news.
func (w *world) sessionsLost(m *machine) {
	for _, s := range slices.Clone(w.sessions) {
		if (s.h.m == m || s.a.m == m) && w.net.open(s.a.at, s.h.at) && w.net.open(s.h.at, s.a.at) {
			s.ended(m)
		}
	}
	w.sessionsChanged()
}

// toHost carries a message of the agent up the session.
func (s *session) toHost(ev controller.Event) {
	s.up.send(func() { s.h.m.by(s.id, s.hLife, func(bool) { s.h.step(ev) }) })
}

// hello opens the session at the controller, which welcomes the agent.
func (s *session) hello(ev controller.AgentHello) {
	s.up.send(func() {
		s.h.m.by(s.id, s.hLife, func(bool) {
			s.down.send(func() { s.a.receive(s, steward.Welcomed{Session: s.id, Cluster: clusterID, Proven: true}) })
			s.h.step(ev)
		})
	})
}
