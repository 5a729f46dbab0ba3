package lab

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// traffic drives the traffic processes of the machines at both ends.
type traffic struct {
	flows []Flow
	ends  []*talker
}

// startTraffic starts a process at each end and then the flows.
func (l *nvaLab) startTraffic(flows []Flow) (*traffic, error) {
	t := &traffic{flows: flows}
	for _, machine := range []string{"client", "workload"} {
		end, err := l.startEnd(machine, flows)
		if err != nil {
			t.close()
			return nil, err
		}
		t.ends = append(t.ends, end)
	}
	for _, end := range t.ends {
		if _, err := askEnd(end, trafficQuestion{Ask: "start"}); err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

func (l *nvaLab) startEnd(machine string, flows []Flow) (*talker, error) {
	end, err := l.startTalker(machine, machine+"-traffic", "lab", "traffic")
	if err != nil {
		return nil, err
	}
	var ready string
	if err := end.ask(trafficConfig{Machine: machine, Flows: flows}, &ready); err != nil {
		end.close()
		return nil, err
	}
	return end, nil
}

func askEnd(end *talker, q trafficQuestion) (a trafficAnswer, err error) {
	err = end.ask(q, &a)
	return a, err
}

// flowLoss is what became of one flow in a window of time.
type flowLoss struct {
	Flow   Flow
	Sent   int64
	Lost   int64
	Outage time.Duration // see arrived.outage
	Broke  int           // TCP connections that broke
}

// window asks what became of everything sent in [from, to). Ask a little after to: packets under way count as lost.
func (t *traffic) window(from, to time.Time) ([]flowLoss, error) {
	left := map[uint16]numberRange{}
	q := trafficQuestion{Ask: "sent", From: from.UnixNano(), To: to.UnixNano()}
	for _, end := range t.ends {
		a, err := askEnd(end, q)
		if err != nil {
			return nil, err
		}
		for id, r := range a.Sent {
			left[id] = r
		}
	}
	came := map[uint16]arrivedAnswer{}
	q = trafficQuestion{Ask: "arrived", From: from.UnixNano(), To: to.UnixNano(), Ranges: left}
	for _, end := range t.ends {
		a, err := askEnd(end, q)
		if err != nil {
			return nil, err
		}
		for id, r := range a.Arrived {
			came[id] = r
		}
	}
	var all []flowLoss
	for _, f := range t.flows {
		r, a := left[f.ID], came[f.ID]
		all = append(all, flowLoss{Flow: f, Sent: r.End - r.First, Lost: r.End - r.First - a.Count,
			Outage: a.Outage, Broke: r.Broke})
	}
	return all, nil
}

// lastArrivals gives when each flow was last heard of.
func (t *traffic) lastArrivals() (map[uint16]int64, error) {
	all := map[uint16]int64{}
	for _, end := range t.ends {
		a, err := askEnd(end, trafficQuestion{Ask: "last"})
		if err != nil {
			return nil, err
		}
		for id, at := range a.Last {
			all[id] = at
		}
	}
	return all, nil
}

// reconnect makes every TCP flow begin anew, without counting it as broken.
func (t *traffic) reconnect() error {
	for _, end := range t.ends {
		if _, err := askEnd(end, trafficQuestion{Ask: "reconnect"}); err != nil {
			return err
		}
	}
	return nil
}

// silent names the flows of these kinds that have not been heard of for a while: 100 ms, or five intervals.
func (t *traffic) silent(kinds ...FlowKind) ([]string, error) {
	last, err := t.lastArrivals()
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	var names []string
	for _, f := range t.flows {
		if slices.Contains(kinds, f.Kind) && now-last[f.ID] > int64(max(100*time.Millisecond, 5*f.Interval)) {
			names = append(names, f.Name)
		}
	}
	return names, nil
}

// packetKinds are the flows without a memory: they flow as soon as the way is open.
var packetKinds = []FlowKind{FlowUDP, FlowICMP, FlowGRE, FlowESP}

// waitFlowing waits until none of these kinds has been silent for hold.
func (t *traffic) waitFlowing(ctx context.Context, hold, limit time.Duration, kinds ...FlowKind) error {
	deadline := time.Now().Add(limit)
	since := time.Time{}
	for {
		names, err := t.silent(kinds...)
		if err != nil {
			return err
		}
		now := time.Now()
		switch {
		case len(names) > 0:
			since = time.Time{}
			if now.After(deadline) {
				return fmt.Errorf("no traffic after %s: %v", limit, names)
			}
		case since.IsZero():
			since = now
		case now.Sub(since) >= hold:
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// close ends the processes. Closing nothing, or twice, is safe.
func (t *traffic) close() {
	if t == nil {
		return
	}
	for _, end := range t.ends {
		end.close()
	}
	t.ends = nil
}

// sleep waits for d, or less when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
