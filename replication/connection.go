package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/wire"
)

// DefaultPort of process servers.
const DefaultPort = "9443"

func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(address, DefaultPort)
}

// errMoved says that the stream goes to another process server.
var errMoved = errors.New("moved to another process server")

// connection is one stream to one process server.
type connection struct {
	s      *Sender
	t      Target
	stream wire.Replication_ShipClient
	opened bool

	mu       sync.Mutex
	sent     []sentBatch // not spooled, oldest first
	last     uint64      // position that the process server may answer for
	inFlight int         // bytes of them
	spooled  chan struct{}
	left     bool
}

type sentBatch struct {
	last  uint64
	bytes int
}

// run opens the stream and ships until something ends it.
func (c *connection) run(ctx context.Context, client wire.ReplicationClient) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hello := time.AfterFunc(helloTimeout, func() { cancel(errors.New("the process server did not say where the stream stands")) })
	defer hello.Stop()
	var err error
	if c.stream, err = client.Ship(ctx); err != nil {
		return because(ctx, err)
	}
	if err := c.stream.Send(&wire.ToProcessServer{M: &wire.ToProcessServer_Open{Open: c.open()}}); err != nil && !errors.Is(err, io.EOF) {
		return because(ctx, err)
	}
	first, err := c.recv()
	if err != nil {
		return because(ctx, err)
	}
	o := first.GetOpened()
	if o == nil {
		return errors.New("the first message was no opened")
	}
	hello.Stop()
	if o.Stored > o.Spooled {
		return fmt.Errorf("the process server says that %d is stored and only %d spooled", o.Stored, o.Spooled)
	}
	c.begin(o)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { cancel(c.send(ctx)) })
	err = c.listen()
	if c.hasLeft() {
		return errMoved
	}
	return because(ctx, err)
}

// because prefers the reason that this side had for ending a stream.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, io.EOF) {
		return cause
	}
	return err
}

func (c *connection) open() *wire.ShipOpen {
	i := &c.s.cfg.Stream
	o := &wire.ShipOpen{Machine: i.Machine, MachineUid: i.UID, Stream: i.Stream, Epoch: i.Epoch, Version: c.s.cfg.Version, Beat: c.beat()}
	for _, d := range i.Disks {
		o.Disks = append(o.Disks, &wire.ShipDisk{Id: d.ID, Size: d.Size})
	}
	return o
}

func (c *connection) beat() *wire.ShipBeat {
	lag, now := c.s.cfg.Lag(), time.Now()
	b := &wire.ShipBeat{SentUnixNs: now.UnixNano(), QueueBytes: lag.QueueBytes, Captured: lag.Captured, InGap: lag.InGap}
	if !lag.Oldest.IsZero() {
		b.QueueAgeNs = max(int64(now.Sub(lag.Oldest)), 0)
	}
	return b
}

// recv gives the next message; a refusal is an error.
func (c *connection) recv() (*wire.FromProcessServer, error) {
	m, err := c.stream.Recv()
	if err != nil {
		return nil, err
	}
	if r := m.GetRefused(); r != nil {
		return nil, &Refusal{Code: r.Code, Detail: r.Detail}
	}
	return m, nil
}

// begin goes on from what the process server has.
func (c *connection) begin(o *wire.ShipOpened) {
	c.opened, c.spooled, c.last = true, make(chan struct{}, 1), o.Spooled
	source := c.s.cfg.Source
	whole := source.Rewind(o.Spooled + 1) // first: it finds out whether the far side speaks of the same past
	source.Release(o.Spooled)
	source.Stored(o.Stored)
	c.s.update(func(st *SenderStatus) {
		st.Target, st.Connected, st.Since, st.Fenced = c.t.Address, true, time.Now(), false
		st.Sent, st.Spooled, st.Stored, st.Skew = o.Spooled, o.Spooled, o.Stored, time.Until(time.Unix(0, o.NowUnixNs))
		st.Connections++
		if !whole {
			st.Rewinds++
		}
		c.s.setCondition(nil)
	})
	c.s.cfg.Log.Info("the stream is open at a process server", "address", c.t.Address, "spooled", o.Spooled, "stored", o.Stored, "gap", !whole)
}

func (s *Sender) update(f func(*SenderStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

// listen passes answers on to the source until the stream ends.
func (c *connection) listen() error {
	for {
		m, err := c.recv()
		if err != nil {
			return err
		}
		if seq := max(m.GetSpooled().GetSeq(), m.GetStored().GetSeq(), m.GetLeft().GetStored()); seq > c.lastSent() {
			return fmt.Errorf("the process server answers for position %d; %d was sent last", seq, c.lastSent())
		}
		switch m := m.M.(type) {
		case *wire.FromProcessServer_Spooled:
			c.s.cfg.Source.Release(m.Spooled.Seq)
			c.landed(m.Spooled.Seq)
		case *wire.FromProcessServer_Stored:
			c.s.cfg.Source.Stored(m.Stored.Seq)
			c.stored(m.Stored)
		case *wire.FromProcessServer_Throttle:
			c.throttled(m.Throttle)
		case *wire.FromProcessServer_Left:
			c.s.cfg.Source.Stored(m.Left.Stored)
			c.mu.Lock()
			c.left = true
			c.mu.Unlock()
			return errMoved
		}
	}
}

// lastSent is the position up to which answers make sense. One beyond it would have the source forget what nobody has.
func (c *connection) lastSent() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *connection) hasLeft() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left
}

func (c *connection) stored(m *wire.ShipStored) {
	c.s.update(func(st *SenderStatus) {
		st.Stored = max(st.Stored, m.Seq)
		st.RPO, st.RPOp50, st.RPOp99, st.RPOAt = time.Duration(m.RpoNs), time.Duration(m.RpoP50Ns), time.Duration(m.RpoP99Ns), time.Now()
		st.Skew = time.Until(time.Unix(0, m.NowUnixNs))
	})
}

func (c *connection) throttled(m *wire.ShipThrottle) {
	c.s.update(func(*SenderStatus) {
		if m.Code == "" {
			c.s.setCondition(nil)
			return
		}
		c.s.setCondition(&api.Condition{Code: ProcessServerFull, Severity: api.Critical, Since: time.Now(),
			Message: fmt.Sprintf("process server %s: %s", c.t.Address, m.Detail), Impacts: "writes are remembered, not shipped"})
	})
}

// landed notes that batches are spooled.
func (c *connection) landed(seq uint64) {
	c.mu.Lock()
	n := 0
	for n < len(c.sent) && c.sent[n].last <= seq {
		c.inFlight -= c.sent[n].bytes
		n++
	}
	c.sent = c.sent[n:]
	inFlight := c.inFlight
	c.mu.Unlock()
	select {
	case c.spooled <- struct{}{}:
	default:
	}
	c.s.update(func(st *SenderStatus) { st.Spooled, st.InFlightBytes = max(st.Spooled, seq), int64(inFlight) })
}

// flying gives the bytes that are on their way.
func (c *connection) flying() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight
}

// sendBatch sends records that fit one batch.
func (c *connection) sendBatch(recs []journal.Record) error {
	b, err := journal.AppendBatch(make([]byte, 0, journal.BatchSize(recs)), recs)
	if err != nil {
		return fmt.Errorf("records %d to %d: %w", recs[0].Seq, recs[len(recs)-1].Seq, err)
	}
	last := recs[len(recs)-1].Seq
	c.mu.Lock()
	c.sent, c.last = append(c.sent, sentBatch{last, len(b)}), last
	c.inFlight += len(b)
	inFlight := c.inFlight
	c.mu.Unlock()
	m := &wire.ShipBatch{First: recs[0].Seq, Last: last, Records: b, SentUnixNs: time.Now().UnixNano()}
	if err := c.stream.Send(&wire.ToProcessServer{M: &wire.ToProcessServer_Batch{Batch: m}}); err != nil {
		return err
	}
	c.s.update(func(st *SenderStatus) {
		st.Sent, st.InFlightBytes = last, int64(inFlight)
		st.Batches++
		st.Records += int64(len(recs))
		st.SentBytes += int64(len(b))
	})
	return nil
}
