package steward

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
)

// StateVersion of what is written.
const StateVersion = 1

// State is what an agent keeps on disk. It is written before it takes effect.
type State struct {
	Version int            `json:"version"`
	Gate    lead.GateState `json:"gate"`
	// Sections by lead.SectionKey.
	Sections map[string]Kept `json:"sections"`
}

// Kept is one section with the token it came under.
type Kept struct {
	Section api.Section `json:"section"`
	Token   api.Token   `json:"token"`
	// Secrets by name: those that the section refers to.
	Secrets map[string]map[string]string `json:"secrets,omitempty"`
}

func (s State) clone() State {
	s.Version = StateVersion
	s.Gate.Sections = maps.Clone(s.Gate.Sections)
	s.Sections = maps.Clone(s.Sections)
	return s
}

// Grants is what is held under a grant and since when each right counts, in one boot of the machine.
type Grants struct {
	Boot  string                   `json:"boot"`
	Since map[string]clock.Instant `json:"since"`
}

// Encode writes the state as JSON.
func (s State) Encode() ([]byte, error) { return json.MarshalIndent(s, "", "  ") }

// DecodeState reads what Encode wrote. It refuses what a newer agent wrote, and sections that are not whole.
func DecodeState(b []byte) (*State, error) {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("agent state: %w", err)
	}
	if s.Version != StateVersion {
		return nil, fmt.Errorf("agent state: version %d, want %d", s.Version, StateVersion)
	}
	for key, k := range s.Sections {
		if err := check(k.Section); err != nil {
			return nil, fmt.Errorf("agent state: %w", err)
		}
		if want := lead.SectionKey(k.Section.Engine, k.Section.Owner); key != want {
			return nil, fmt.Errorf("agent state: section %q is filed as %q", want, key)
		}
	}
	return &s, nil
}

// check tells whether a section has exactly the payload that its engine wants.
func check(s api.Section) error {
	payloads := map[string]bool{
		api.EngineRoutes: s.Routes != nil, api.EngineAddresses: s.Addresses != nil, api.EngineRole: s.Role != nil,
		api.EngineProtect: s.Protect != nil, api.EngineProcessServer: s.ProcessServer != nil, api.EngineSite: s.Site != nil, api.EngineKeeper: s.Keeper != nil,
	}
	has, known := payloads[s.Engine]
	if !known {
		return fmt.Errorf("section of %q: engine %q: want one of %s", s.Owner, s.Engine, strings.Join(slices.Sorted(maps.Keys(payloads)), ", "))
	}
	n := 0
	for _, p := range payloads {
		if p {
			n++
		}
	}
	if s.Owner == "" || !has || n != 1 {
		return fmt.Errorf("section %s of %q: want an owner and exactly the payload %q", s.Engine, s.Owner, s.Engine)
	}
	return nil
}

// holdsAny tells whether the section wants addresses held: whoever applies it needs a grant.
func holdsAny(s api.Section) bool { return s.Addresses != nil && len(s.Addresses.Addresses) > 0 }
