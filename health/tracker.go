package health

import (
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/mutant"
)

// RefreshEvery is how often an observer repeats all its opinions; StaleAfter is how long one counts without being
// repeated. A observer that is cut off thus falls silent instead of being believed.
const (
	RefreshEvery = time.Second
	StaleAfter   = 3500 * time.Millisecond
)

// Verdict is what is acted on.
type Verdict struct {
	Health api.Health
	// Up and Down count the observers that say so now.
	Up, Down int
	// Since is when the verdict became what it is, by the local wall clock.
	Since time.Time
	// FirstMiss is the earliest first failed probe of those who say Down.
	FirstMiss time.Time
	Detail    string
	// Doubt: too few of those who say so are sure. When observers lose sight of everything at once, or get it back, one
	// member's verdict changes before the others'.
	Doubt bool
}

// Tracker joins the opinions about one group's members. k observers that agree make a verdict. It is driven by one goroutine.
type Tracker struct {
	quorum  int
	members map[string]*tracked
}

type tracked struct {
	heard   map[string]heard
	verdict Verdict
}

type heard struct {
	opinion Opinion
	at      clock.Instant
}

// NewTracker wants quorum observers to agree; quorum 0 means more than half of observers.
func NewTracker(quorum, observers int) *Tracker {
	if quorum <= 0 {
		quorum = observers/2 + 1
	}
	if mutant.On(mutant.QuorumOfOne) {
		quorum = 1
	}
	return &Tracker{quorum: quorum, members: map[string]*tracked{}}
}

func (t *Tracker) member(name string) *tracked {
	m := t.members[name]
	if m == nil {
		m = &tracked{heard: map[string]heard{}, verdict: Verdict{Health: api.Unknown}}
		t.members[name] = m
	}
	return m
}

// Hear takes an observer's opinion, new or repeated.
func (t *Tracker) Hear(now clock.Instant, observer string, o Opinion) {
	t.member(o.Member).heard[observer] = heard{o, now}
}

// Verdict of a member at now.
func (t *Tracker) Verdict(now clock.Instant, member string) Verdict {
	m := t.member(member)
	v := Verdict{Health: api.Unknown, Since: m.verdict.Since}
	sureUp, sureDown := 0, 0
	for _, h := range m.heard {
		if now.Since(h.at) > StaleAfter {
			continue
		}
		switch h.opinion.Health {
		case api.Up:
			v.Up++
			if !h.opinion.Doubt {
				sureUp++
			}
		case api.Down:
			v.Down++
			if !h.opinion.Doubt {
				sureDown++
			}
			if v.FirstMiss.IsZero() || h.opinion.FirstMiss.Before(v.FirstMiss) {
				v.FirstMiss, v.Detail = h.opinion.FirstMiss, h.opinion.Detail
			}
		}
	}
	switch {
	case v.Down >= t.quorum && v.Down >= v.Up:
		v.Health, v.Doubt = api.Down, sureDown < t.quorum
	case v.Up >= t.quorum:
		v.Health, v.Doubt = api.Up, sureUp < t.quorum
	}
	if v.Health != m.verdict.Health || v.Since.IsZero() {
		v.Since = now.Wall
	}
	m.verdict = v
	return v
}
