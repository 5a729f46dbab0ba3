package vault

import (
	"context"
	"fmt"
	"io"

	"github.com/understudy-ha/understudy/journal"
)

// ExportLog writes what happened to one disk from the beginning of the stream up to a position as a dm-log-writes log, which replay-log
// plays back to any of its marks: each recovery point is one, by its id. It fails with ErrNotKept when compaction has dropped segments, and on
// streams that stand on another. It returns the number of entries.
func (v *Vault) ExportLog(ctx context.Context, stream string, disk int, upTo uint64, to io.WriterAt) (uint64, error) {
	l := newLogWriter(to)
	err := v.Records(ctx, stream, 0, upTo, func(r *journal.Record) error { return l.record(r, uint16(disk)) })
	if err == nil {
		err = l.close()
	}
	return l.entries, err
}

// record writes what a record does to one disk.
func (l *logWriter) record(r *journal.Record, disk uint16) error {
	flags := uint64(0)
	if r.Flags&journal.FUA != 0 {
		flags = logFUA
	}
	switch {
	case r.Kind == journal.Point:
		return l.entry(0, 0, logMark, nil, r.Point.ID)
	case r.Kind == journal.GapBegin || r.Kind == journal.GapEnd:
		return l.entry(0, 0, logMark, nil, fmt.Sprintf("%s-%d", r.Kind, r.Seq))
	case r.Disk != disk:
		return nil
	case r.Kind == journal.Write:
		return l.entry(r.Off, r.Len, flags, r.Data, "")
	case r.Kind == journal.Zero:
		return l.entry(r.Off, r.Len, flags|logDiscard, nil, "")
	}
	return l.entry(0, 0, logFlush, nil, "")
}

// Records gives the records after position from up to position upTo (both of a stream whose segments are all kept there), in order, until
// yield fails. A record's data may be kept and must not be changed.
func (v *Vault) Records(ctx context.Context, stream string, from, upTo uint64, yield func(*journal.Record) error) error {
	if _, err := v.identities("read", stream); err != nil {
		return err
	}
	key := streamKey(stream, "pins/"+v.opt.Nonce())
	s, run, err := v.pinSegments(ctx, stream, from, upTo, key)
	defer func() { v.store.Delete(context.WithoutCancel(ctx), key) }()
	if err != nil {
		return err
	}
	for _, sp := range run {
		if err := ctx.Err(); err != nil {
			return err
		}
		seg, _, err := v.openSegment(ctx, stream, &s.segments[sp.segment], true)
		if err != nil {
			return err
		}
		var failed error
		if err := seg.Each(func(r *journal.Record) bool {
			if r.Seq > from && r.Seq <= upTo {
				failed = yield(r)
			}
			return failed == nil && r.Seq < upTo
		}); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// pinSegments finds and pins the segments that hold (from, upTo].
func (v *Vault) pinSegments(ctx context.Context, stream string, from, upTo uint64, key string) (*state, []span, error) {
	for range swapTries {
		s, err := v.load(ctx, stream)
		if err != nil {
			return nil, nil, err
		}
		if s.Base.Kind == "stream" && from == 0 {
			return nil, nil, fail("read the records of", stream, ErrNotKept, "it stands on %s; take an image", s.Base.Stream)
		}
		run, at := []span(nil), from
		for i, g := range s.segments {
			if g.Last > at && g.After <= at && at < upTo {
				run, at = append(run, span{from: g.After, to: g.Last, layer: -1, segment: i}), g.Last
			}
		}
		if at < upTo || upTo > s.Seq {
			return nil, nil, fail("read the records of", stream, ErrNotKept, "those from %d to %d are merged into layers or not stored; take an image", at+1, upTo)
		}
		p := &pin{Format: format, Stream: stream, Seq: upTo, Keys: s.keysOf(run)}
		if err := v.putPin(ctx, key, p); err != nil {
			return nil, nil, err
		}
		again, err := v.load(ctx, stream)
		if err != nil {
			return nil, nil, err
		}
		if again.names(p.Keys) {
			return s, run, nil
		}
	}
	return nil, nil, fail("pin", stream, ErrBusy, "try again")
}
