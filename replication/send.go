package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/wire"
)

// send batches what the source gives and sends it, with a beat at least once a second, until ctx ends or the stream moves.
//
// While nothing is on its way a record goes at once; while something is, records gather for as long as Linger or until
// there are BatchBytes of them. When WindowBytes are on their way nothing more is asked of the source.
func (c *connection) send(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	pulled := make(chan []journal.Record)
	pulling := make(chan struct{})
	var sourceErr error
	go func() {
		defer close(pulling)
		defer close(pulled)
		sourceErr = c.pull(ctx, pulled)
	}()
	defer func() {
		cancel()
		<-pulling
	}()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	var g gather
	for {
		_, moved := c.s.target(0)
		if !c.s.wanted(c.t) {
			return c.leave(ctx)
		}
		if err := c.flush(&g); err != nil {
			return err
		}
		in := (<-chan []journal.Record)(pulled)
		if g.bytes >= c.s.cfg.BatchBytes || c.flying()+g.bytes >= c.s.cfg.WindowBytes {
			in = nil
		}
		var lingered <-chan time.Time
		if len(g.recs) > 0 {
			lingered = time.After(max(time.Until(g.since.Add(c.s.cfg.Linger)), 0))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case recs, ok := <-in:
			if !ok {
				<-pulling
				return fmt.Errorf("source: %w", sourceErr)
			}
			g.add(recs)
		case <-c.spooled:
		case <-lingered:
		case <-moved:
		case <-tick.C:
			if err := c.stream.Send(&wire.ToProcessServer{M: &wire.ToProcessServer_Beat{Beat: c.beat()}}); err != nil {
				return err
			}
		}
	}
}

// pull takes records from the source, which it never keeps waiting for anything but the window.
func (c *connection) pull(ctx context.Context, pulled chan<- []journal.Record) error {
	for {
		recs, err := c.s.cfg.Source.Next(ctx)
		if err != nil {
			return err
		}
		select {
		case pulled <- recs:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flush sends what is due.
func (c *connection) flush(g *gather) error {
	for len(g.recs) > 0 {
		flying := c.flying()
		due := flying == 0 || g.bytes >= c.s.cfg.BatchBytes || time.Since(g.since) >= c.s.cfg.Linger
		if !due || flying > 0 && flying+min(g.bytes, c.s.cfg.BatchBytes) > c.s.cfg.WindowBytes {
			return nil
		}
		if err := c.sendBatch(g.take(c.s.cfg.BatchBytes)); err != nil {
			return err
		}
	}
	return nil
}

// leave tells the process server that the stream goes elsewhere, and gives it time to store what it has.
func (c *connection) leave(ctx context.Context) error {
	if err := c.stream.Send(&wire.ToProcessServer{M: &wire.ToProcessServer_Leave{Leave: &wire.ShipLeave{}}}); err != nil {
		return err
	}
	timer := time.NewTimer(c.s.cfg.LeaveTimeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errMoved
	}
}

// gather holds records that were taken from the source and not yet sent.
type gather struct {
	recs  []journal.Record
	bytes int
	since time.Time // when the oldest was taken
}

func (g *gather) add(recs []journal.Record) {
	if len(g.recs) == 0 {
		g.since = time.Now()
	}
	g.recs = append(g.recs, recs...)
	for i := range recs {
		g.bytes += journal.RecordSize(&recs[i])
	}
}

// take takes the first records off, as many as fit one batch, at least one.
func (g *gather) take(limit int) []journal.Record {
	n, bytes := 0, 0
	for n < len(g.recs) && (n == 0 || bytes+journal.RecordSize(&g.recs[n]) <= limit) {
		bytes += journal.RecordSize(&g.recs[n])
		n++
	}
	out := g.recs[:n:n]
	g.recs, g.bytes = g.recs[n:], g.bytes-bytes
	return out
}
