package armsim

import (
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"time"
)

// operation is one accepted write. It takes effect when it is due.
type operation struct {
	id       string
	resource *resource
	accepted time.Duration
	due      time.Duration
	doc      map[string]any // what the resource becomes
	fail     bool
	stalled  bool // never ends
	lost     bool // nobody knows its id
	done     bool
}

// settle lets everything that is due take effect, in order of time.
func (s *Server) settle(now time.Duration) {
	var due []*operation
	for _, o := range s.ops {
		if !o.done && !o.stalled && o.due <= now {
			due = append(due, o)
		}
	}
	sort.Slice(due, func(i, j int) bool {
		if due[i].due != due[j].due {
			return due[i].due < due[j].due
		}
		return due[i].id < due[j].id
	})
	for _, o := range due {
		s.finish(o)
	}
}

func (s *Server) finish(o *operation) {
	o.done = true
	r := o.resource
	r.op = nil
	state := "Succeeded"
	if o.fail {
		state = "Failed"
	} else {
		r.doc = o.doc
	}
	props(r.doc)["provisioningState"] = state
	s.touch(r)
	s.relink()
	s.effects = append(s.effects, Effect{Accepted: o.accepted.Seconds(), At: o.due.Seconds(), Resource: r.id, Failed: o.fail})
}

// start accepts a write that takes a while.
func (s *Server) start(r *resource, doc map[string]any, latency time.Duration, f *Fault) *operation {
	if j := s.top.Latencies.Jitter; j > 0 {
		latency += time.Duration(float64(latency) * j * (2*s.rng.Float64() - 1))
	}
	now := s.Now()
	o := &operation{
		id: fmt.Sprintf("%08x-%04x-4000-8000-%012x", s.rng.Uint32(), s.rng.Uint32()&0xffff, len(s.ops)), resource: r,
		accepted: now, due: now + latency, doc: doc,
	}
	if f != nil {
		o.fail, o.lost, o.stalled = f.Kind == FailOperation, f.Kind == LoseOperation, f.Kind == StallOperation
		if f.Kind == SlowOperation {
			o.due += f.Delay.D()
		}
	}
	s.ops[o.id] = o
	r.op = o
	props(r.doc)["provisioningState"] = "Updating"
	s.touch(r)
	return o
}

// announce writes the answer to an accepted write.
func (s *Server) announce(a *answer, o *operation) {
	style := s.top.Headers
	if style == HeadersMixed {
		style = []Headers{HeadersAsync, HeadersLocation, HeadersBoth}[s.rng.IntN(3)]
	}
	base := a.base + "/subscriptions/" + subscriptionOf(o.resource.id) + "/providers/Microsoft.Network/locations/" + s.top.location()
	async := base + "/operations/" + o.id + "?api-version=2024-05-01"
	location := base + "/operationResults/" + o.id + "?api-version=2024-05-01"
	body := clone(o.doc)
	props(body)["provisioningState"] = "Updating"
	body["etag"] = o.resource.doc["etag"]
	a.status, a.body = http.StatusOK, body
	switch style {
	case HeadersNone:
		return
	case HeadersAsync:
		a.header.Set("Azure-AsyncOperation", async)
	case HeadersLocation:
		a.status = http.StatusAccepted
		a.header.Set("Location", location)
	default:
		a.status = http.StatusCreated
		a.header.Set("Azure-AsyncOperation", async)
		a.header.Set("Location", location)
	}
	s.retryAfter(a)
}

func (s *Server) retryAfter(a *answer) {
	d := s.Real(s.top.retryAfter())
	a.header.Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	if s.scale != 1 {
		a.header.Set("x-ms-retry-after-ms", strconv.FormatInt(max(1, d.Milliseconds()), 10))
	}
}

// operationStatus answers a look at an Azure-AsyncOperation or Location url.
func (s *Server) operationStatus(a *answer, id string, byLocation bool) {
	o := s.ops[id]
	if o == nil || o.lost {
		a.refuse(http.StatusNotFound, "OperationNotFound", "the operation "+id+" was not found")
		return
	}
	failure := map[string]any{"code": "InternalServerError", "message": "An error occurred."}
	switch {
	case !o.done && byLocation:
		a.status = http.StatusAccepted
		a.header.Set("Location", a.self)
		s.retryAfter(a)
	case !o.done:
		a.status, a.body = http.StatusOK, map[string]any{"status": "InProgress"}
		s.retryAfter(a)
	case o.fail && byLocation:
		a.refuse(http.StatusInternalServerError, "InternalServerError", "An error occurred.")
	case o.fail:
		a.status, a.body = http.StatusOK, map[string]any{"status": "Failed", "error": failure}
	case byLocation:
		a.status, a.body = http.StatusOK, clone(o.resource.doc)
	default:
		a.status, a.body = http.StatusOK, map[string]any{"status": "Succeeded"}
	}
}
