package armsim

import (
	"fmt"
	"strings"

	"github.com/understudy-ha/understudy/api"
)

// FaultKind says what goes wrong.
type FaultKind string

// The faults. Those of operations and DropResponse fit writes only.
const (
	FailOperation    FaultKind = "FailOperation"    // the operation ends as Failed, nothing changes
	LoseOperation    FaultKind = "LoseOperation"    // the operation's url answers 404; it takes effect all the same
	StallOperation   FaultKind = "StallOperation"   // the operation never ends
	SlowOperation    FaultKind = "SlowOperation"    // the operation takes Delay longer
	DropResponse     FaultKind = "DropResponse"     // the request is carried out, then the connection is cut
	DropRequest      FaultKind = "DropRequest"      // the connection is cut, nothing happens
	Throttle         FaultKind = "Throttle"         // 429 TooManyRequests with Retry-After
	AnotherOperation FaultKind = "AnotherOperation" // 429 RetryableErrorDueToAnotherOperation with Retry-After
	ServerError      FaultKind = "ServerError"      // 503
)

// Fault is one thing that goes wrong with the requests that fit it.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// Method it is limited to, like PUT. "" is any.
	Method string `json:"method,omitempty"`
	// Resource it is limited to: an id, requests below it included. "" is any.
	Resource string `json:"resource,omitempty"`
	// Rate is the part of the fitting requests it hits, 0 to 1. 0 means each.
	Rate float64 `json:"rate,omitempty"`
	// Times it hits at most. 0 means without end.
	Times int `json:"times,omitempty"`
	// Delay of SlowOperation, virtual.
	Delay api.Duration `json:"delay,omitempty"`

	hits int
}

func (k FaultKind) known() bool {
	switch k {
	case FailOperation, LoseOperation, StallOperation, SlowOperation, DropResponse, DropRequest, Throttle, AnotherOperation, ServerError:
		return true
	}
	return false
}

// ofWrites tells faults that only a write can meet.
func (k FaultKind) ofWrites() bool {
	switch k {
	case FailOperation, LoseOperation, StallOperation, SlowOperation, DropResponse:
		return true
	}
	return false
}

// Inject adds a fault. Faults are tried in the order they were added; the first that hits is the one.
func (s *Server) Inject(f Fault) error {
	if !f.Kind.known() {
		return fmt.Errorf("armsim: fault kind %q: unknown; FailOperation, LoseOperation, StallOperation, SlowOperation, DropResponse, DropRequest, Throttle, AnotherOperation and ServerError exist", f.Kind)
	}
	if f.Rate < 0 || f.Rate > 1 {
		return fmt.Errorf("armsim: fault rate %v: want 0 to 1", f.Rate)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
	return nil
}

// ClearFaults removes all faults. What they did to running operations stays.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault picks what goes wrong with a request, or nil.
func (s *Server) fault(method, path string) *Fault {
	for _, f := range s.faults {
		if f.Times > 0 && f.hits >= f.Times || f.Method != "" && f.Method != method || f.Kind.ofWrites() && method != "PUT" {
			continue
		}
		if f.Resource != "" && key(path) != key(f.Resource) && !strings.HasPrefix(key(path), key(f.Resource)+"/") {
			continue
		}
		if f.Rate > 0 && s.rng.Float64() >= f.Rate {
			continue
		}
		f.hits++
		return f
	}
	return nil
}
