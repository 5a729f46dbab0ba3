package steward

import (
	"time"

	"github.com/understudy-ha/understudy/api"
)

// Effect is something to be done outside. Messages to a session that is gone are dropped.
type Effect interface{ effect() }

// The effects.
type (
	// SendHello is the first message of a session.
	SendHello struct {
		Session uint64
		Report
	}

	// SendTick carries a tick of this life.
	SendTick struct {
		Session uint64
		Seq     uint64
	}

	// SendApplied answers a push; the codes are those of package wire.
	SendApplied struct {
		Session uint64
		Push    uint64
		Code    string
		Detail  string
	}

	// SendReport tells a controller the agent's state.
	SendReport struct {
		Session uint64
		Report
	}

	// Store puts the state on disk so that it outlives a power cut. Stored follows. It may take its time: nothing else waits.
	Store struct {
		N     uint64
		State State
	}

	// StoreGrants puts the grants on disk. It need not outlive a power cut, since grants do not; nothing follows.
	StoreGrants struct{ Grants Grants }

	// Apply gives an engine an owner's whole section. Applied follows. Valid is how long addresses may be held from now.
	// Confirmed tells that in this life a leader said that the section's generation holds. Secrets are those it refers to.
	Apply struct {
		N         uint64
		Section   api.Section
		Valid     time.Duration
		Confirmed bool
		Secrets   map[string]map[string]string
	}

	// Renew gives the owner's addresses more time from now, and announces them again. Nothing follows.
	Renew struct {
		Owner string
		Valid time.Duration
	}

	// Drop takes the owner's addresses away at once: the grant is over. Dropped follows.
	Drop struct{ Owner string }

	// Sweep removes addresses, and routes if Routes is set, that an earlier life made and that nobody wants.
	Sweep struct{ Routes bool }

	// Ask asks a candidate for a promise. Answered follows.
	Ask struct {
		Round     uint64
		Owner     string
		Candidate string
		Address   string
	}

	// Answer answers Asked.
	Answer struct {
		ID       uint64
		Promised bool
		Reason   string
	}
)

// Report is the agent's state as controllers see it.
type Report struct {
	Sections []api.SectionStatus
	// Holds lists the owners whose grant the agent has, or whose addresses it could not get rid of.
	Holds []string
}

func (SendHello) effect()   {}
func (SendTick) effect()    {}
func (SendApplied) effect() {}
func (SendReport) effect()  {}
func (Store) effect()       {}
func (StoreGrants) effect() {}
func (Apply) effect()       {}
func (Renew) effect()       {}
func (Drop) effect()        {}
func (Sweep) effect()       {}
func (Ask) effect()         {}
func (Answer) effect()      {}
