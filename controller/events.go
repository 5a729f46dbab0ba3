// Package controller is one controller's mind: it composes lead, health, job and
// appliance into a single state machine. Events and the time go in, effects come
// out; it starts no goroutine, opens no socket and reads no clock, so that package
// server runs it for real and package sim runs the same code under one seed.
package controller

import (
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/store"
)

// Event is something that happened.
type Event interface{ event() }

type (
	// Changed is a delivery of a watch over the whole store.
	Changed struct{ Batch store.Batch }
	// TxnDone answers a Transact.
	TxnDone struct {
		ID   uint64
		Revs []store.Rev
		Err  error // nil, or one that wraps a sentinel of package store
	}
	// ReadDone answers a Read: what Keys and Prefixes hold, read after the effect was given. With Err nothing was read.
	ReadDone struct {
		ID      uint64
		Entries []store.Entry // absent keys are left out
		Err     error
	}
	// Probed is the result of one probe of this controller's own.
	Probed struct {
		Group   api.Ref
		Member  string
		Outcome health.Outcome
		Detail  string
	}
	// Heard is what another controller thinks.
	Heard struct {
		Observer string
		Opinions []health.Opinion
		Full     bool // replaces everything heard from it before
	}
	// AgentHello opens a session with an agent, in place of any older one.
	AgentHello struct {
		Node        string // tenant/name
		Session     uint64 // unique in this process, growing
		Life        string // of the agent's process
		Version     string
		PeerAddress string
		Drivers     []string
		Sections    []api.SectionStatus
		Holds       []string
	}
	// AgentReport is the agent's state, on change.
	AgentReport struct {
		Node     string
		Session  uint64
		Sections []api.SectionStatus
		Holds    []string
	}
	// AgentTick asks for an echo.
	AgentTick struct {
		Node    string
		Session uint64
		Life    string
		Seq     uint64
	}
	// AgentApplied answers a Push.
	AgentApplied struct {
		Node    string
		Session uint64
		Push    uint64
		Code    string // see wire.proto
		Detail  string
	}
	// AgentGone ends a session.
	AgentGone struct {
		Node    string
		Session uint64
	}
	// StepDone answers an Execute.
	StepDone struct {
		Job, Step string
		Attempt   uint64 // of the Execute
		Outcome   string
		Err       error
		Permanent bool // trying again will not help
		// Point that a choose step found.
		Point *api.RecoveryPoint
	}
	// Observed answers an Observe.
	Observed struct {
		Group api.Ref
		State cloud.State
		Err   error
	}
	// Checked tells what doctor's standing checks found for a group.
	Checked struct {
		Group    api.Ref
		Findings []cloud.Finding
	}
	// Wake comes when the time of a WakeIn has passed, or at any other time.
	Wake struct{}
	// Stop makes the controller finish what is under way and give the lease back; Stopped follows.
	Stop struct{}
)

func (Changed) event()      {}
func (TxnDone) event()      {}
func (ReadDone) event()     {}
func (Probed) event()       {}
func (Heard) event()        {}
func (AgentHello) event()   {}
func (AgentReport) event()  {}
func (AgentTick) event()    {}
func (AgentApplied) event() {}
func (AgentGone) event()    {}
func (StepDone) event()     {}
func (Observed) event()     {}
func (Checked) event()      {}
func (Wake) event()         {}
func (Stop) event()         {}

// Effect is something to be done, in the order given. None of them blocks the machine.
type Effect interface{ effect() }

type (
	// Transact runs a transaction. Its outcome is a TxnDone, always exactly one.
	Transact struct {
		ID    uint64
		Conds []store.Cond
		Ops   []store.Op
	}
	// Read reads keys and prefixes, afresh. Its outcome is a ReadDone, always exactly one.
	Read struct {
		ID       uint64
		Keys     []string
		Prefixes []string
	}
	// Probe replaces the whole set of probe targets.
	Probe struct{ Targets []Target }
	// Tell sends opinions to every other controller; a lost one is made good by the next full one.
	Tell struct {
		Opinions []health.Opinion
		Full     bool
	}
	// Echo answers a tick of an agent and renews grants.
	Echo struct {
		Node    string
		Session uint64
		Life    string
		Seq     uint64
		Epoch   int64
		Renews  []string
	}
	// Push sends sections to an agent. AgentApplied follows, or never: then the machine pushes again.
	Push struct {
		Node     string
		Session  uint64
		ID       uint64
		Life     string
		Tick     uint64
		Token    api.Token
		Sections []api.Section
	}
	// Execute carries out a step that needs no agent: routes, detach, attach, hook, verify, choose. StepDone follows.
	Execute struct {
		Subject  api.Ref
		Group    *api.ApplianceGroup // nil but for groups, as Provider is
		Provider *api.Provider
		Job      *api.Job // for hooks and for people; not to be changed
		Step     api.Step
		Attempt  uint64
		Token    api.Token
	}
	// Observe reads where a group's things are in its cloud. Observed follows.
	Observe struct {
		Group    *api.ApplianceGroup
		Provider *api.Provider
	}
	// Record writes an event to the store and tells notifiers. It may be lost when the store is down.
	Record struct{ Event api.Event }
	// WakeIn asks for a Wake at the latest after this time; a newer one replaces it.
	WakeIn struct{ In time.Duration }
	// Boundary marks a place where a fault hurts most. Nothing is to be done; tests crash here. Effects
	// after it in the same list have not happened yet.
	Boundary struct {
		Where BoundaryKind
		Job   string
		Steps []string
	}
	// Lead tells that this controller has begun or ceased to lead.
	Lead struct {
		Leading bool
		Epoch   int64
	}
	// Stopped answers Stop: nothing more comes.
	Stopped struct{}
)

func (Transact) effect() {}
func (Read) effect()     {}
func (Probe) effect()    {}
func (Tell) effect()     {}
func (Echo) effect()     {}
func (Push) effect()     {}
func (Execute) effect()  {}
func (Observe) effect()  {}
func (Record) effect()   {}
func (WakeIn) effect()   {}
func (Boundary) effect() {}
func (Lead) effect()     {}
func (Stopped) effect()  {}

// BoundaryKind names a place in a step's life.
type BoundaryKind string

// The boundaries of a step.
const (
	BeforeIntent BoundaryKind = "before-intent"
	AfterIntent  BoundaryKind = "after-intent"
	AfterEffect  BoundaryKind = "after-effect"
	AfterOutcome BoundaryKind = "after-outcome"
)

// Boundaries lists them in order.
func Boundaries() []BoundaryKind {
	return []BoundaryKind{BeforeIntent, AfterIntent, AfterEffect, AfterOutcome}
}

// Target is one member to probe.
type Target struct {
	Group   api.Ref
	Member  string
	Address string // host:port
	Probe   api.Probe
}

// Config of a Core. It does not change while the controller runs.
type Config struct {
	// Self is this controller's name; Controllers lists all, Self too.
	Self        string
	Controllers []string
	Timing      lead.Timing
	ClusterID   string
	// Planners by provider type.
	Planners map[api.ProviderType]cloud.Planner
	// Version of the product, for Record.
	Version string
}

// Stepper is what a shell drives.
type Stepper interface {
	Step(now clock.Instant, ev Event) []Effect
}
