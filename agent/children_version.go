package agent

import (
	"context"
	"fmt"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
)

// An engine goes on with the program that it was started from, also when the agent was upgraded: an upgrade stops no disk. What carries no
// disk is started anew by itself; of the others the status says which version runs.

// old tells whether an engine's process runs another version than its agent.
func (ch *child) old(s api.EngineState) bool {
	return ch.c.version != "" && s.Version != ch.c.version
}

// renew ends a process of another version that nobody waits for while it is away: what is shipped is spooled or still dirty at its source.
// It is started again as one that ended by itself is, from the agent's program. If that is of another version too, it is left alone.
func (ch *child) renew(ctx context.Context, want engines.Config, s api.EngineState) {
	if ch.renewed || !ch.old(s) || want.Section.ProcessServer == nil && want.Section.Keeper == nil {
		return
	}
	ch.renewed = true
	ch.c.log.Info("engine is started anew", "home", string(ch.home), "version", s.Version, "agent", ch.c.version)
	_ = ch.home.Stop(ctx) // one that does not stop goes on as it is
}

// withVersion adds that an engine's version is not its agent's.
func (ch *child) withVersion(s api.EngineState) api.EngineState {
	if !ch.old(s) {
		return s
	}
	was := s.Version
	if was == "" {
		was = "unknown"
	}
	s.Conditions = append(s.Conditions[:len(s.Conditions):len(s.Conditions)], api.Condition{Code: "EngineOtherVersion", Severity: api.Info,
		Message: fmt.Sprintf("%s: the engine runs version %s, its agent %s; a new process takes the agent's, and the disks come back with it", ch.home.Name(), was, ch.c.version)})
	return s
}
