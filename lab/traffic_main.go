package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// trafficConfig is the first line a traffic process reads.
type trafficConfig struct {
	Machine string `json:"machine"`
	Flows   []Flow `json:"flows"`
}

// trafficQuestion is each later line.
type trafficQuestion struct {
	// Ask is "sent", "arrived", "last" or "reconnect".
	Ask  string `json:"ask"`
	From int64  `json:"from,omitempty"`
	To   int64  `json:"to,omitempty"`
	// Ranges by flow, for "arrived".
	Ranges map[uint16]numberRange `json:"ranges,omitempty"`
}

type numberRange struct {
	First int64 `json:"first"`
	End   int64 `json:"end"`
	Broke int   `json:"broke,omitempty"`
}

type arrivedAnswer struct {
	Count  int64         `json:"count"`
	Outage time.Duration `json:"outage"`
}

// trafficAnswer is one line back, by flow.
type trafficAnswer struct {
	Sent    map[uint16]numberRange   `json:"sent,omitempty"`
	Arrived map[uint16]arrivedAnswer `json:"arrived,omitempty"`
	Last    map[uint16]int64         `json:"last,omitempty"`
}

// TrafficMain is one machine's traffic process: it sends and counts flows until its input ends. It reads the flows
// as one JSON line, answers "ready", then one line for each question.
func TrafficMain(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	var config trafficConfig
	if err := readLine(lines, &config); err != nil {
		return fmt.Errorf("read flows: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	t := &trafficProcess{sent: map[uint16]*sent{}, arrived: map[uint16]*arrived{}, interval: map[uint16]time.Duration{}, again: map[uint16]chan struct{}{}}
	closers, err := t.receive(ctx, config, &wg)
	defer func() {
		for _, c := range closers {
			c.Close()
		}
	}()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, `"ready"`); err != nil {
		return err
	}
	started := false
	for {
		var q trafficQuestion
		if err := readLine(lines, &q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read question: %w", err)
		}
		if q.Ask == "start" && !started {
			started = true
			t.send(ctx, config, &wg)
		}
		b, err := json.Marshal(t.answer(q))
		if err != nil {
			return err
		}
		if _, err := out.Write(append(b, '\n')); err != nil {
			return err
		}
	}
}

type trafficProcess struct {
	sent     map[uint16]*sent
	arrived  map[uint16]*arrived
	interval map[uint16]time.Duration
	again    map[uint16]chan struct{}
}

// receive opens every socket the machine's incoming flows need.
func (t *trafficProcess) receive(ctx context.Context, config trafficConfig, wg *sync.WaitGroup) (closers []io.Closer, err error) {
	raw := map[FlowKind]bool{}
	for _, f := range config.Flows {
		if f.To != config.Machine {
			continue
		}
		t.arrived[f.ID], t.interval[f.ID] = &arrived{}, f.Interval
	}
	for _, f := range config.Flows {
		if f.To != config.Machine {
			continue
		}
		if f.Kind == FlowTCP {
			l, err := net.Listen("tcp4", fmt.Sprintf(":%d", f.Port))
			if err != nil {
				return closers, fmt.Errorf("flow %s: %w", f.Name, err)
			}
			closers = append(closers, l)
			wg.Go(func() { receiveStreams(ctx, l, t.arrived) })
			continue
		}
		if _, isRaw := rawProtocol[f.Kind]; isRaw {
			if raw[f.Kind] {
				continue // one socket gets every packet of the protocol
			}
			raw[f.Kind] = true
		}
		conn, err := listen(f)
		if err != nil {
			return closers, err
		}
		closers = append(closers, conn)
		wg.Go(func() { receivePackets(conn, f.Kind, t.arrived) })
	}
	return closers, nil
}

func (t *trafficProcess) send(ctx context.Context, config trafficConfig, wg *sync.WaitGroup) {
	for _, f := range config.Flows {
		if f.From != config.Machine {
			continue
		}
		record := &sent{}
		t.sent[f.ID] = record
		if f.Kind == FlowTCP {
			again := make(chan struct{}, 1)
			t.again[f.ID] = again
			wg.Go(func() { sendStream(ctx, f, record, again) })
			continue
		}
		wg.Go(func() { _ = sendPackets(ctx, f, record) })
	}
}

func (t *trafficProcess) answer(q trafficQuestion) trafficAnswer {
	var a trafficAnswer
	switch q.Ask {
	case "sent":
		a.Sent = map[uint16]numberRange{}
		for id, s := range t.sent {
			first, end, broke := s.between(q.From, q.To)
			a.Sent[id] = numberRange{first, end, broke}
		}
	case "arrived":
		a.Arrived = map[uint16]arrivedAnswer{}
		for id, r := range q.Ranges {
			if rec := t.arrived[id]; rec != nil {
				a.Arrived[id] = arrivedAnswer{rec.count(r.First, r.End), rec.outage(q.From, q.To, r.First, r.End, t.interval[id])}
			}
		}
	case "last":
		a.Last = map[uint16]int64{}
		for id, rec := range t.arrived {
			a.Last[id] = rec.last()
		}
	case "reconnect":
		for _, again := range t.again {
			select {
			case again <- struct{}{}:
			default:
			}
		}
	}
	return a
}
