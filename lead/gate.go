package lead

import (
	"errors"
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/mutant"
)

// Why a Gate refuses. All are for good, as far as this push goes.
var (
	ErrOldCluster      = errors.New("push of an older cluster")
	ErrOldEpoch        = errors.New("push of an older epoch")
	ErrOldGeneration   = errors.New("push of an older generation")
	ErrStaleTick       = errors.New("push with a tick that is too old")
	ErrClusterUnproven = errors.New("push of a cluster that the CA did not sign")
)

// GateState is what an agent keeps on disk, written before what it admits takes effect.
type GateState struct {
	// ClusterID is the newest seen. Its serial, before the first "-", orders clusters.
	ClusterID string `json:"clusterID"`
	// Epoch is the newest seen in that cluster.
	Epoch int64 `json:"epoch"`
	// Sections holds the newest token by "engine|owner".
	Sections map[string]api.Token `json:"sections"`
}

// Gate is an agent's judgement whether a push may take effect. Driven by one goroutine.
type Gate struct {
	timing Timing
	state  GateState
}

// NewGate starts from what was kept on disk; the zero state is a fresh agent.
func NewGate(t Timing, s GateState) *Gate {
	if s.Sections == nil {
		s.Sections = map[string]api.Token{}
	}
	return &Gate{timing: t, state: s}
}

// SectionKey names a section of a node's config.
func SectionKey(engine, owner string) string { return engine + "|" + owner }

// Admit judges a push of sections under token. tickSent is when this agent sent the tick that the push carries, by
// its own clock; the zero Instant if it never sent such a tick in this life. proven tells that the token's cluster showed the CA's signature.
// A nil error has moved the state forward; persist State before applying. The same token twice is admitted twice.
func (g *Gate) Admit(now, tickSent clock.Instant, token api.Token, proven bool, sections []api.Section) error {
	if tickSent.IsZero() || now.AtMostSince(tickSent) >= g.timing.Hold() {
		if !mutant.On(mutant.NoTickCheck) {
			return fmt.Errorf("%w: sent %v ago, want less than %v", ErrStaleTick, now.AtMostSince(tickSent), g.timing.Hold())
		}
	}
	switch c := CompareClusters(token.ClusterID, g.state.ClusterID); {
	case c < 0:
		return fmt.Errorf("%w: %s, have seen %s", ErrOldCluster, token.ClusterID, g.state.ClusterID)
	case c > 0 && !proven:
		return fmt.Errorf("%w: %s", ErrClusterUnproven, token.ClusterID)
	case c == 0 && token.Epoch < g.state.Epoch && !mutant.On(mutant.NoEpochCheck):
		return fmt.Errorf("%w: %d, have seen %d", ErrOldEpoch, token.Epoch, g.state.Epoch)
	}
	for _, s := range sections {
		last := g.state.Sections[SectionKey(s.Engine, s.Owner)]
		if CompareClusters(token.ClusterID, last.ClusterID) == 0 && s.Generation < last.Generation && !mutant.On(mutant.NoEpochCheck) {
			return fmt.Errorf("%w: %s of %s is %d, have seen %d", ErrOldGeneration, s.Engine, s.Owner, s.Generation, last.Generation)
		}
	}
	g.state.ClusterID, g.state.Epoch = token.ClusterID, token.Epoch
	for _, s := range sections {
		t := token
		t.Generation = s.Generation
		g.state.Sections[SectionKey(s.Engine, s.Owner)] = t
	}
	return nil
}

// State gives a copy of what must be kept.
func (g *Gate) State() GateState {
	s := g.state
	s.Sections = make(map[string]api.Token, len(g.state.Sections))
	for k, v := range g.state.Sections {
		s.Sections[k] = v
	}
	return s
}
