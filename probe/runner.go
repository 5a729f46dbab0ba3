package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/clock"
)

// maxInFlight probes of one target wait for their answers; while so many do, none is sent.
const maxInFlight = 128

// runner probes one target.
type runner struct {
	target  Target
	meter   *stallMeter
	results func(Result)
	cancel  context.CancelFunc
	ctx     context.Context
	poke    chan struct{} // a burst began
	work    sync.WaitGroup

	mu       sync.Mutex
	seq      uint64    // of the newest probe sent
	inFlight []*flight // oldest first
	spent    bool      // a burst began since the last success
	burst    int       // results that the burst still lasts
}

// flight is a probe under way.
type flight struct {
	seq    uint64
	sent   clock.Instant
	conn   *conn   // nil until there is one
	result *Result // nil until it ended
	reset  bool
}

func start(ctx context.Context, t Target, m *stallMeter, results func(Result)) *runner {
	r := &runner{target: t, meter: m, results: results, poke: make(chan struct{}, 1)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	r.work.Go(r.loop)
	return r
}

// stop ends the probes under way; wait waits until they have ended.
func (r *runner) stop() {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.inFlight {
		if f.conn != nil {
			f.conn.close()
		}
	}
}

func (r *runner) wait() { r.work.Wait() }

// opened takes note of a probe's connection.
func (r *runner) opened(f *flight, c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.conn = c
	if r.ctx.Err() != nil {
		c.close()
	}
}

func (r *runner) loop() {
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.poke:
			due = time.Now().Add(r.interval())
		case <-timer.C:
			r.send()
			due = due.Add(r.interval())
			if now := time.Now(); due.Before(now) {
				due = now.Add(r.interval())
			}
		}
		timer.Reset(time.Until(due))
	}
}

// interval until the next probe.
func (r *runner) interval() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.burst > len(r.inFlight) {
		return r.target.Interval / 5
	}
	return r.target.Interval
}

func (r *runner) send() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.inFlight) >= maxInFlight {
		return
	}
	r.seq++
	f := &flight{seq: r.seq, sent: clock.System()}
	r.inFlight = append(r.inFlight, f)
	r.work.Go(func() { r.probe(f) })
}

// probe runs one probe and delivers what can be delivered in order.
func (r *runner) probe(f *flight) {
	sent := time.Now()
	deadline := sent.Add(r.target.Timeout)
	failed := attempt{r.target, deadline, func(c *conn) { r.opened(f, c) }}.ask()
	now := time.Now()
	r.meter.late(deadline, now)
	res := Result{Target: r.target.ID, Seq: f.seq, Sent: f.sent, Done: clock.System()}
	if failed != nil {
		res.Outcome, res.Detail = r.target.blame(failed, r.meter.between(sent, now))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f.result, f.reset = &res, failed != nil && failed.reset
	for len(r.inFlight) > 0 && r.inFlight[0].result != nil {
		head := r.inFlight[0]
		r.inFlight = r.inFlight[1:]
		r.count(head)
		if r.ctx.Err() == nil {
			r.results(*head.result)
		}
	}
}

// blame tells whether a failure is held against the target, of a probe during which the prober lost some time.
func (t Target) blame(f *failure, lost time.Duration) (Outcome, string) {
	switch {
	case lost >= t.tolerance():
		return Inconclusive, fmt.Sprintf("%v; the prober itself stalled for %v", f.err, lost.Round(time.Millisecond))
	case f.own:
		return Inconclusive, f.err.Error()
	}
	return Fail, f.err.Error()
}

// count moves the burst on by one result.
func (r *runner) count(f *flight) {
	if r.burst > 0 {
		r.burst--
	}
	switch {
	case f.result.Outcome == OK:
		r.spent, r.burst = false, 0
	case f.reset && !r.spent:
		r.spent, r.burst = true, r.target.Fall
		select {
		case r.poke <- struct{}{}:
		default:
		}
	}
}
