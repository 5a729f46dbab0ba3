package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// traffic drives the traffic processes of the machines at both ends.
type traffic struct {
	flows []Flow
	ends  []*trafficEnd
}

type trafficEnd struct {
	machine string
	proc    *process
	mu      sync.Mutex // one question at a time
	in      io.WriteCloser
	out     *bufio.Reader
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
		if _, err := end.ask(trafficQuestion{Ask: "start"}); err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

func (l *nvaLab) startEnd(machine string, flows []Flow) (*trafficEnd, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	defer outW.Close()
	proc, err := l.start(machine, program{name: machine + "-traffic", path: l.binary, args: []string{"lab", "traffic"}, stdin: inR, stdout: outW})
	if err != nil {
		return nil, err
	}
	end := &trafficEnd{machine: machine, proc: proc, in: inW, out: bufio.NewReader(outR)}
	b, err := json.Marshal(trafficConfig{Machine: machine, Flows: flows})
	if err != nil {
		return nil, err
	}
	if _, err := inW.Write(append(b, '\n')); err != nil {
		return nil, fmt.Errorf("configure traffic at %s: %w", machine, err)
	}
	var ready string
	if err := readLine(end.out, &ready); err != nil {
		return nil, fmt.Errorf("traffic at %s did not start, see its log: %w", machine, err)
	}
	return end, nil
}

func (e *trafficEnd) ask(q trafficQuestion) (trafficAnswer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var a trafficAnswer
	b, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	if _, err := e.in.Write(append(b, '\n')); err != nil {
		return a, fmt.Errorf("ask traffic at %s: %w", e.machine, err)
	}
	if err := readLine(e.out, &a); err != nil {
		return a, fmt.Errorf("answer of traffic at %s: %w", e.machine, err)
	}
	return a, nil
}

// flowLoss is what became of one flow in a window of time.
type flowLoss struct {
	Flow   Flow
	Sent   int64
	Lost   int64
	Outage time.Duration // the longest time without an arrival, less the interval
	Broke  int           // TCP connections that broke
}

// window asks what became of everything sent in [from, to). Ask a little after to: packets under way count as lost.
func (t *traffic) window(from, to time.Time) ([]flowLoss, error) {
	left := map[uint16]numberRange{}
	q := trafficQuestion{Ask: "sent", From: from.UnixNano(), To: to.UnixNano()}
	for _, end := range t.ends {
		a, err := end.ask(q)
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
		a, err := end.ask(q)
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
			Outage: max(0, a.Gap-f.Interval), Broke: r.Broke})
	}
	return all, nil
}

// lastArrivals gives when each flow was last heard of.
func (t *traffic) lastArrivals() (map[uint16]int64, error) {
	all := map[uint16]int64{}
	for _, end := range t.ends {
		a, err := end.ask(trafficQuestion{Ask: "last"})
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
		if _, err := end.ask(trafficQuestion{Ask: "reconnect"}); err != nil {
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

// close ends the processes.
func (t *traffic) close() {
	for _, e := range t.ends {
		e.in.Close()
		e.proc.stop(2 * time.Second)
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
