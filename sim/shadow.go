package sim

import (
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/health"
)

// shadows is what one controller must think of each member, by the probes it made: kept beside the product, so that
// its decisions can be compared with it.
type shadows struct {
	judges  map[subject]*health.Judge
	history map[subject][]turn
	seen    []subject // of history, in the order they came
}

type subject struct {
	group  api.Ref
	member string
}

// turn is a change of opinion at a true time.
type turn struct {
	at     time.Duration
	health api.Health
}

// reset forgets everything: the process is a new one.
func (s *shadows) reset(at time.Duration) {
	s.judges = map[subject]*health.Judge{}
	if s.history == nil {
		s.history = map[subject][]turn{}
	}
	for _, sub := range s.seen {
		s.history[sub] = append(s.history[sub], turn{at, api.Unknown})
	}
}

func (s *shadows) retarget(h *host, targets []controller.Target) {
	old := s.judges
	s.judges = map[subject]*health.Judge{}
	for _, t := range targets {
		sub := subject{t.Group, t.Member}
		j := old[sub]
		if j == nil || j.Rise != t.Probe.Rise || j.Fall != t.Probe.Fall {
			j = health.NewJudge(t.Group, t.Member, t.Probe.Rise, t.Probe.Fall)
		}
		s.judges[sub] = j
	}
}

func (s *shadows) probed(h *host, e controller.Probed) {
	sub := subject{e.Group, e.Member}
	j := s.judges[sub]
	if j == nil || !j.Result(h.m.now().Wall, e.Outcome, e.Detail) {
		return
	}
	if s.history[sub] == nil {
		s.seen = append(s.seen, sub)
	}
	s.history[sub] = append(s.history[sub], turn{h.w.now, j.Opinion().Health})
	h.w.note(h.m.name, "thinks", e.Member, string(j.Opinion().Health), e.Group.Name)
}

// thought tells whether the controller thought so of the member at any time from a to b.
func (s *shadows) thought(sub subject, what api.Health, a, b time.Duration) bool {
	turns := s.history[sub]
	for i, t := range turns {
		until := b
		if i+1 < len(turns) {
			until = turns[i+1].at
		}
		if t.health == what && t.at <= b && until >= a {
			return true
		}
	}
	return false
}
