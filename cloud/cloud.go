// Package cloud is what all movers of public addresses, NICs and route tables have
// in common. cloud/azure moves them through Azure Resource Manager, cloud/linux
// through agents on routers and appliances.
//
// A mover has two halves. Planning is pure: a Move goes in, steps come out, so that
// `understudy plan`, the controller and the simulator see the same plan. Carrying out
// is a Driver.
package cloud

import (
	"context"
	"errors"

	"github.com/understudy-ha/understudy/api"
)

// Move is what is to be planned: the group's addresses and routes onto To.
type Move struct {
	Group *api.ApplianceGroup
	// Provider of the group, defaulted.
	Provider *api.Provider
	// From is who has them now as far as is known; "" if nobody or unknown: then every other member is taken as loser.
	From string
	To   string
	// Generation of the assignment that is being reconciled.
	Generation int64
	// Planned tells a planned move from a failover: the loser is expected to answer.
	Planned bool
	// Peers gives each member node's agent peer endpoint, for lease effects.
	Peers map[string]string
}

// Planner turns a move into steps, in state Pending. It is pure and deterministic.
// Steps have unique IDs; their Needs and Locks are the dependency graph.
type Planner interface {
	Plan(Move) ([]api.Step, error)
}

// Driver carries out cloud steps and reads the cloud back. Safe for concurrent use.
type Driver interface {
	// Do carries out one step of kind routes, detach or attach and returns when the cloud says it has taken effect.
	// It is idempotent: done twice it does nothing the second time. A refusal that will not change by itself is
	// ErrPermanent. The token is written beside what is changed where the cloud allows; where the cloud's copy is newer Do
	// returns ErrStale and changes nothing.
	Do(ctx context.Context, token api.Token, step api.Step) (outcome string, err error)
	// Observe reads where the group's addresses and routes point now.
	Observe(ctx context.Context, group *api.ApplianceGroup) (State, error)
	// Check finds what would make a move fail: existence, permissions, IP forwarding, provisioning state.
	Check(ctx context.Context, group *api.ApplianceGroup) ([]Finding, error)
}

// State says where a group's addresses and routes point.
type State struct {
	Holdings []Holding
}

// Holding is one movable thing and who has it.
type Holding struct {
	// Thing is the claim id of the address or route, see Claims.
	Thing string
	// Member that has it; "" for nobody or somebody who is no member.
	Member string
	// Detail for people, like the next hop found.
	Detail string
}

// On gives the member that has everything, or "" if there is no such member.
func (s State) On() string {
	if len(s.Holdings) == 0 {
		return ""
	}
	m := s.Holdings[0].Member
	for _, h := range s.Holdings {
		if h.Member != m {
			return ""
		}
	}
	return m
}

// Astray lists what is not on member.
func (s State) Astray(member string) []Holding {
	var out []Holding
	for _, h := range s.Holdings {
		if h.Member != member {
			out = append(out, h)
		}
	}
	return out
}

// Finding is one result of a check.
type Finding struct {
	// Code is stable and in CamelCase, like PermissionMissing.
	Code     string       `json:"code"`
	Severity api.Severity `json:"severity"`
	// Resource it is about: an ARM id, a node.
	Resource string `json:"resource,omitempty"`
	// Message says what is wrong and what would be right.
	Message string `json:"message"`
	// Blocks tells that a move would fail.
	Blocks bool `json:"blocks"`
}

var (
	// ErrPermanent says that trying again will not help until somebody changes something.
	ErrPermanent = errors.New("cloud: refused for good")
	// ErrStale says that a newer token has been here.
	ErrStale = errors.New("cloud: a newer leadership has been here")
)
