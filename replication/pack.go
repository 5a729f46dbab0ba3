package replication

import (
	"context"
	"errors"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// errLeft says that the sender has left and all that it sent is stored.
var errLeft = errors.New("left")

// pack is what becomes one append.
type pack struct {
	recs    []journal.Record
	bytes   int64 // of records as they travel
	arrived time.Time
}

func (p *pack) last() uint64 { return p.recs[len(p.recs)-1].Seq }

func (p *pack) add(fr *frame, recs []journal.Record) {
	if len(p.recs) == 0 {
		p.arrived = fr.arrived
		p.recs = recs
	} else {
		p.recs = append(p.recs, recs...)
	}
	p.bytes += int64(fr.bytes)
}

// packer makes packs of what is spooled.
type packer struct {
	l    *lane
	cur  *cursor
	held *frame // read, and too much for the last pack
	skip uint64 // records up to here are stored
}

func (l *lane) packer() *packer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &packer{l: l, cur: l.sp.reader(), skip: l.stored}
}

// next gives the next pack: as much as is there, up to SegmentBytes, and not before it is full or SegmentAge old.
func (p *packer) next(ctx context.Context) (*pack, error) {
	out := &pack{}
	for out.bytes < p.l.cfg.SegmentBytes {
		if p.held == nil {
			more, err := p.wait(ctx, out)
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			if p.held, err = p.cur.next(); err != nil {
				return nil, err
			}
		}
		recs := after(p.held.recs, p.skip)
		if len(out.recs) > 0 && out.bytes+int64(p.held.bytes) > p.l.cfg.SegmentBytes {
			break
		}
		if len(recs) > 0 {
			out.add(p.held, recs)
		}
		p.held = nil
	}
	return out, nil
}

// wait returns when a frame can be read (true), or when the pack has waited long enough (false).
func (p *packer) wait(ctx context.Context, out *pack) (more bool, err error) {
	if len(out.recs) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, out.arrived.Add(p.l.cfg.SegmentAge), errOld)
		defer cancel()
	}
	err = p.l.until(ctx, func() bool {
		more = p.l.spooled > p.cur.after
		return more || p.l.leaving && (len(out.recs) > 0 || p.l.stored >= p.l.received)
	})
	switch {
	case err != nil && context.Cause(ctx) == errOld:
		return false, nil
	case err != nil:
		return false, err
	case !more && len(out.recs) == 0:
		return false, errLeft
	}
	return more, nil
}

var errOld = errors.New("old enough")

// after gives the records behind a position.
func after(recs []journal.Record, pos uint64) []journal.Record {
	for len(recs) > 0 && recs[0].Seq <= pos {
		recs = recs[1:]
	}
	return recs
}
