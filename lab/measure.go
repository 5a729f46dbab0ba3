package lab

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// contender is whoever fails the pair over.
type contender interface {
	name() string
	// start takes the routes and starts the contender's processes; it returns when one appliance is active.
	start(ctx context.Context) error
	// startOn starts its processes on an appliance that rebooted.
	startOn(ctx context.Context, appliance string) error
	// active names the active appliance, "" if that is nobody for sure.
	active(ctx context.Context) (string, error)
	// steady waits until the next fault may come: one is active and the other ready.
	steady(ctx context.Context) error
	stop(ctx context.Context) error
}

// outcome is what one fault did to the traffic.
type outcome struct {
	injected time.Time
	restored bool          // packets flowed again within the limit
	outage   time.Duration // worst direction of the UDP probes
	lost     int64         // of all packet flows
	stall    time.Duration // worst TCP flow
	sessions int           // TCP connections that broke or did not go on
}

func (o outcome) String() string {
	if !o.restored {
		return fmt.Sprintf("dark for %.1f s and more, %d packets lost", o.outage.Seconds(), o.lost)
	}
	tcp := fmt.Sprintf("TCP kept, stalled %.0f ms", milliseconds(o.stall))
	if o.sessions > 0 {
		tcp = fmt.Sprintf("%d TCP sessions lost", o.sessions)
	}
	return fmt.Sprintf("outage %.0f ms, %d packets lost, %s", milliseconds(o.outage), o.lost, tcp)
}

// measure injects a fault and watches the traffic until it flows again, at most for limit.
func (l *nvaLab) measure(ctx context.Context, t *traffic, limit time.Duration, inject func() error) (outcome, error) {
	o := outcome{}
	from := time.Now()
	if err := sleep(ctx, 100*time.Millisecond); err != nil {
		return o, err
	}
	o.injected = time.Now()
	if err := inject(); err != nil {
		return o, fmt.Errorf("inject the fault: %w", err)
	}
	o.restored = t.waitFlowing(ctx, 400*time.Millisecond, limit, packetKinds...) == nil
	if err := ctx.Err(); err != nil {
		return o, err
	}
	if o.restored {
		// TCP tries again at growing intervals: it may be silent as long again as the packets were.
		_ = t.waitFlowing(ctx, 100*time.Millisecond, 3*time.Second+2*time.Since(o.injected), FlowTCP)
	}
	stuck, err := t.silent(FlowTCP)
	if err != nil {
		return o, err
	}
	o.sessions = len(stuck)
	to := time.Now()
	if err := sleep(ctx, 100*time.Millisecond); err != nil {
		return o, err
	}
	losses, err := t.window(from, to)
	if err != nil {
		return o, err
	}
	for _, f := range losses {
		switch {
		case f.Flow.Kind == FlowTCP:
			o.stall = max(o.stall, f.Outage)
			if !slices.Contains(stuck, f.Flow.Name) {
				o.sessions += f.Broke
			}
			continue
		case f.Flow.Kind == FlowUDP:
			o.outage = max(o.outage, f.Outage)
		}
		o.lost += f.Lost
	}
	return o, nil
}

// round breaks the active appliance under the contender's eyes, measures, heals and waits until all is steady again.
func (l *nvaLab) round(ctx context.Context, t *traffic, c contender, f fault, limit time.Duration) (o outcome, victim string, err error) {
	if victim, err = c.active(ctx); err != nil || victim == "" {
		return o, victim, fmt.Errorf("%s: no active appliance before the fault (%w)", c.name(), err)
	}
	if !l.waitSessions(ctx, t.flows, 5*time.Second) {
		l.say("  the appliances do not share every TCP connection: the fault will break some")
	}
	o, err = l.measure(ctx, t, limit, func() error { return f.inject(ctx, l, victim) })
	if err != nil {
		return o, victim, err
	}
	if err := f.heal(ctx, l, victim); err != nil {
		return o, victim, fmt.Errorf("heal %s: %w", victim, err)
	}
	if f.reboots {
		if err := c.startOn(ctx, victim); err != nil {
			return o, victim, err
		}
	}
	if err := c.steady(ctx); err != nil {
		return o, victim, err
	}
	if err := t.waitFlowing(ctx, 200*time.Millisecond, 10*time.Second, packetKinds...); err != nil {
		return o, victim, fmt.Errorf("after healing %s: %w", victim, err)
	}
	if o.sessions > 0 {
		err = t.reconnect()
	}
	return o, victim, err
}

// tally adds up rounds.
type tally struct {
	outages  []time.Duration
	detects  []time.Duration
	stalls   []time.Duration
	lost     int64
	sessions int
	dark     int // rounds in which nothing flowed again
	rounds   int
}

func (t *tally) add(o outcome) {
	t.rounds++
	t.outages = append(t.outages, o.outage)
	t.stalls = append(t.stalls, o.stall)
	t.lost += o.lost
	t.sessions += o.sessions
	if !o.restored {
		t.dark++
	}
}

// figures gives the tally under the published names.
func (t *tally) figures(fault, peer string) []Figure {
	if t.rounds == 0 {
		return nil
	}
	all := []Figure{
		{Name: "outage_p50", Value: milliseconds(median(t.outages)), Unit: "ms"},
		{Name: "outage_max", Value: milliseconds(slices.Max(t.outages)), Unit: "ms"},
	}
	if len(t.detects) > 0 {
		all = append(all, Figure{Name: "detect_p50", Value: milliseconds(median(t.detects)), Unit: "ms"})
	}
	all = append(all,
		Figure{Name: "lost_packets", Value: float64(t.lost), Unit: "count"},
		Figure{Name: "tcp_resets", Value: float64(t.sessions), Unit: "count"},
		Figure{Name: "tcp_stall_max", Value: milliseconds(slices.Max(t.stalls)), Unit: "ms"},
		Figure{Name: "rounds", Value: float64(t.rounds), Unit: "count"},
	)
	for i := range all {
		all[i].Fault, all[i].Peer = fault, peer
	}
	return all
}
