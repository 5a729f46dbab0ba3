package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// syncLoop makes what was received durable, as many batches at once as came meanwhile.
func (l *lane) syncLoop(ctx context.Context) {
	for l.until(ctx, func() bool { return l.sp != nil && l.received > l.spooled }) == nil {
		if err := l.syncOnce(); err != nil {
			// Nobody knows what of the spool is durable, also later: what is not stored is sent again.
			l.end(refuse(Unavailable, "spool: %v", err), true)
			return
		}
	}
}

func (l *lane) syncOnce() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	sp, upTo := l.sp, l.received
	l.mu.Unlock()
	if sp == nil {
		return nil
	}
	l.cfg.reached(BeforeSpoolSync)
	if err := sp.sync(); err != nil {
		return err
	}
	l.cfg.reached(AfterSpoolSync)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spooled = max(l.spooled, upTo)
	l.figures.syncs++
	l.change()
	return nil
}

// take appends a session's batch to the spool. It waits as long as there is no room; nothing more is read from the session
// meanwhile.
func (l *lane) take(ctx context.Context, s *session, b *batch) error {
	for {
		err := l.tryTake(s, b)
		l.pause(errors.Is(err, errSpoolFull))
		if !errors.Is(err, errSpoolFull) {
			return err
		}
		if err := l.room.wait(ctx); err != nil {
			return err
		}
	}
}

func (l *lane) tryTake(s *session, b *batch) error {
	l.taking.Lock()
	defer l.taking.Unlock()
	l.mu.Lock()
	sp, received, mine := l.sp, l.received, l.session == s
	l.mu.Unlock()
	if !mine || sp == nil {
		return errNotMine
	}
	if !journal.Follows(received, &b.recs[0]) {
		return refuse(OutOfOrder, "record %d (%s) came after record %d", b.recs[0].Seq, b.recs[0].Kind, received)
	}
	if !l.room.take(int64(frameHead + len(b.bytes))) {
		return errSpoolFull
	}
	now := time.Now()
	if err := sp.append(b.bytes, b.last(), now); errors.Is(err, errSpoolFull) {
		return err
	} else if err != nil {
		l.end(refuse(Unavailable, "spool: %v", err), true)
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received = b.last()
	l.figures.came(b.recs, len(b.bytes), now)
	l.change()
	return nil
}

// errNotMine says that a session has lost its stream; the session knows why.
var errNotMine = errors.New("the session has ended")

// pause notes that the session is not read because the spool is full.
func (l *lane) pause(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.figures.paused != paused {
		l.figures.paused, l.figures.pausedAt = paused, time.Now()
		l.change()
	}
}

// batch is what a sender shipped, checked.
type batch struct {
	bytes []byte
	recs  []journal.Record // parts of bytes
}

func (b *batch) last() uint64 { return b.recs[len(b.recs)-1].Seq }

// checkBatch reads a batch from anybody; only records that the machine's disks can hold pass.
func checkBatch(bytes []byte, disks []Disk) (*batch, error) {
	recs, err := journal.DecodeBatch(bytes)
	if err != nil {
		return nil, refuse(Malformed, "batch of %d bytes: %v", len(bytes), err)
	}
	for i := range recs {
		if err := fits(&recs[i], disks); err != nil {
			return nil, refuse(Malformed, "%v", err)
		}
	}
	return &batch{bytes, recs}, nil
}

func fits(r *journal.Record, disks []Disk) error {
	if r.Kind != journal.Write && r.Kind != journal.Zero && r.Kind != journal.Flush {
		return nil
	}
	if int(r.Disk) >= len(disks) {
		return fmt.Errorf("record %d is for disk %d; the machine has %d", r.Seq, r.Disk, len(disks))
	}
	if d := disks[r.Disk]; d.Size > 0 && r.End() > d.Size {
		return fmt.Errorf("record %d ends at %d of disk %s, which has %d bytes", r.Seq, r.End(), d.ID, d.Size)
	}
	return nil
}
