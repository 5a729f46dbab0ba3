// Package armsim simulates the part of Azure Resource Manager that moves public
// addresses and routes: network interfaces, public addresses, route tables, the
// permissions API and long-running operations, over HTTP or in process.
//
// What it keeps of the real one, because movers stumble over it: a write replaces
// the whole resource, so that a client which forgets enableIPForwarding loses it;
// a change takes effect when its operation ends, not when it is accepted; one
// resource takes one write at a time; a public address on one NIC is refused to
// another; a reference needs a join permission on what it refers to; operations
// are slow, fail, and get lost.
//
// Time is virtual: it runs TimeScale times as fast as the clock. Operations are
// settled when the next request looks, so the simulator has no goroutines and is
// exact in a synctest bubble. The same seed and the same requests in the same order
// meet the same faults.
package armsim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Options of a Server.
type Options struct {
	// Seed of everything random: fault rates, latency jitter, header styles.
	Seed uint64
	// TimeScale is how many times faster than the clock virtual time runs. Default 1. Durations in the topology and
	// in the log are virtual. Retry-After counts real seconds, rounded up; x-ms-retry-after-ms, which Azure's own clients
	// prefer, has the exact value.
	TimeScale float64
	// Token is the bearer token that requests must carry. "" accepts any.
	Token string
	// Topology is what exists at the start.
	Topology Topology
}

// Server is the simulator. Safe for concurrent use.
type Server struct {
	scale float64
	token string
	top   Topology
	begin time.Time

	mu        sync.Mutex
	rng       *rand.Rand
	resources map[string]*resource // by lower-case id
	ops       map[string]*operation
	faults    []*Fault
	serial    int
	log       []Record
	effects   []Effect
}

// Record is one request.
type Record struct {
	// At is the virtual time since the server was made, in seconds.
	At     float64 `json:"at"`
	Method string  `json:"method"`
	Path   string  `json:"path"`
	Status int     `json:"status"` // 0: the connection was cut
	// Code is ARM's error code, "" when it went well.
	Code    string `json:"code,omitempty"`
	IfMatch string `json:"ifMatch,omitempty"`
}

// Effect is one change of a resource that took effect.
type Effect struct {
	// Accepted and At are virtual seconds since the server was made.
	Accepted float64 `json:"accepted"`
	At       float64 `json:"at"`
	Resource string  `json:"resource"`
	// Failed operations change nothing but the provisioning state.
	Failed bool `json:"failed,omitempty"`
}

// New makes a simulator. It refuses a topology with ids that are none, or references to what is not there.
func New(o Options) (*Server, error) {
	if o.TimeScale == 0 {
		o.TimeScale = 1
	}
	if o.TimeScale < 0 {
		return nil, fmt.Errorf("armsim: time scale %v: want more than 0", o.TimeScale)
	}
	switch o.Topology.Headers {
	case "", HeadersAsync, HeadersLocation, HeadersBoth, HeadersNone, HeadersMixed:
	default:
		return nil, fmt.Errorf("armsim: headers %q: want async, location, both, none or mixed", o.Topology.Headers)
	}
	if j := o.Topology.Latencies.Jitter; j < 0 || j > 1 {
		return nil, fmt.Errorf("armsim: latencies.jitter %v: want 0 to 1", j)
	}
	s := &Server{
		scale:     o.TimeScale,
		token:     o.Token,
		top:       o.Topology,
		begin:     time.Now(),
		rng:       rand.New(rand.NewPCG(o.Seed, 0x61726d)),
		resources: map[string]*resource{},
		ops:       map[string]*operation{},
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("armsim: %w", err)
	}
	for _, f := range o.Topology.Faults {
		if err := s.Inject(f); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Now is the virtual time since the server was made.
func (s *Server) Now() time.Duration {
	return time.Duration(float64(time.Since(s.begin)) * s.scale)
}

// Real turns a virtual duration into one of the clock.
func (s *Server) Real(virtual time.Duration) time.Duration {
	return time.Duration(float64(virtual) / s.scale)
}

// Log gives a copy of all requests so far, in the order they were answered.
func (s *Server) Log() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Record(nil), s.log...)
}

// Effects gives a copy of all changes that have taken effect, in order.
func (s *Server) Effects() []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(s.Now())
	return append([]Effect(nil), s.effects...)
}

// Resource gives a copy of a resource's document as a GET would, or nil.
func (s *Server) Resource(id string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(s.Now())
	r := s.resources[key(id)]
	if r == nil {
		return nil
	}
	return clone(r.doc)
}

// Edit changes a resource behind everybody's back, as a portal user would; its etag changes. It reports whether
// the resource exists. The function must not keep the document.
func (s *Server) Edit(id string, change func(doc map[string]any)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(s.Now())
	r := s.resources[key(id)]
	if r == nil {
		return false
	}
	change(r.doc)
	s.touch(r)
	s.relink()
	return true
}

// Delete removes a resource at once. It reports whether it was there.
func (s *Server) Delete(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.resources[key(id)]
	delete(s.resources, key(id))
	return ok
}

// Transport serves requests in process, without a socket.
func (s *Server) Transport() http.RoundTripper { return roundTripper{s} }
