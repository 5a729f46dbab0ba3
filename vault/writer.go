package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/objstore"
)

// Append stores records and returns the position up to which the stream is committed, which on success is that of the last record.
// Records that were committed before are left out, so that repeating an Append is always right. After an error that is not ErrFenced nothing,
// or all of them, may be committed; the next Append finds out. Records that do not follow what is committed are refused.
func (w *Writer) Append(ctx context.Context, recs []journal.Record) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fenced != nil {
		return w.st.Seq, w.fenced
	}
	var made []segmentRef
	var swept uint64
	for range swapTries {
		if !w.certain {
			if err := w.reload(ctx); err != nil {
				return w.st.Seq, err
			}
		}
		recs = recs[committed(recs, w.st.Seq):]
		if len(recs) == 0 {
			return w.st.Seq, nil
		}
		if err := w.check(recs); err != nil {
			return w.st.Seq, err
		}
		// Segments that were put before a collection began may be gone: put them again under other names.
		if made == nil || swept != w.st.Swept || made[0].After != w.st.Seq {
			var err error
			if made, err = w.put(ctx, recs); err != nil {
				return w.st.Seq, err
			}
			swept = w.st.Swept
		}
		err := w.commit(ctx, recs, made)
		if err == nil {
			return w.st.Seq, nil
		}
		if !errors.Is(err, objstore.ErrChanged) && (!errors.Is(err, objstore.ErrUnknown) || ctx.Err() != nil) {
			return w.st.Seq, err
		}
	}
	return w.st.Seq, fail("append to", w.spec.ID, ErrBusy, "try again")
}

// committed is the number of records up to position seq.
func committed(recs []journal.Record, seq uint64) int {
	n, _ := slices.BinarySearchFunc(recs, seq+1, func(r journal.Record, s uint64) int {
		if r.Seq < s {
			return -1
		}
		return 1
	})
	return n
}

func (w *Writer) check(recs []journal.Record) error {
	if err := journal.CheckSequence(recs); err != nil {
		return err
	}
	if !journal.Follows(w.st.Seq, &recs[0]) {
		return fmt.Errorf("append to %s: record %d (%s) stands after position %d; %d or a gap-begin from there is next",
			w.spec.ID, recs[0].Seq, recs[0].Kind, w.st.Seq, w.st.Seq+1)
	}
	for i := range recs {
		r := &recs[i]
		if r.Len > 0 && (int(r.Disk) >= len(w.st.Disks) || r.End() > w.st.Disks[r.Disk].Size) {
			return fmt.Errorf("append to %s: record %d ends at %d of disk %d, which the stream does not have", w.spec.ID, r.Seq, r.End(), r.Disk)
		}
	}
	return nil
}

// put stores records as segments that continue the stream.
func (w *Writer) put(ctx context.Context, recs []journal.Record) ([]segmentRef, error) {
	var made []segmentRef
	after, prev := w.st.Seq, w.st.Chain
	for len(recs) > 0 {
		n, raw := 0, int64(0)
		for n < len(recs) && (n == 0 || raw+int64(journal.RecordSize(&recs[n])) <= w.v.tune.SegmentRaw) {
			raw += int64(journal.RecordSize(&recs[n]))
			n++
		}
		s, err := journal.SealSegment(journal.Binding{Vault: w.v.root.ID, Stream: w.spec.ID, Epoch: w.spec.Epoch, Prev: prev}, recs[:n], w.v.to)
		if err != nil {
			return nil, err
		}
		r := segmentRef{After: after, First: recs[0].Seq, Last: recs[n-1].Seq, Epoch: w.spec.Epoch, Nonce: w.v.opt.Nonce(),
			Size: int64(len(s.Object)), Hash: s.Hash, Prev: prev}
		if _, err := objstore.PutOnce(ctx, w.v.store, segmentKey(w.spec.ID, &r), s.Object); err != nil {
			return nil, err
		}
		made, recs, after, prev = append(made, r), recs[n:], r.Last, r.chain()
	}
	return made, nil
}

// commit swaps in a head that names the segments. Whatever it fails with, the head is read again before the next try.
func (w *Writer) commit(ctx context.Context, recs []journal.Record, made []segmentRef) error {
	w.certain = false
	st := w.st
	if len(st.Tail) >= w.v.tune.FoldAt {
		full, err := w.v.load(ctx, w.spec.ID)
		if err != nil {
			return err
		}
		if full.tag != st.tag {
			return objstore.ErrChanged
		}
		h, err := w.v.fold(ctx, full)
		if err != nil {
			return err
		}
		h.Version--
		st = &state{head: *h, tag: st.tag}
	}
	h := st.next()
	extend(h, recs, made)
	h.Time = w.v.opt.Now().UTC()
	tag, err := w.v.swap(ctx, st, h)
	if mutant.On(mutant.UnknownIsDone) && errors.Is(err, objstore.ErrUnknown) {
		w.st = &state{head: *h}
		return nil
	}
	if err != nil {
		return err
	}
	w.st, w.certain = &state{head: *h, tag: tag}, true
	return nil
}

// extend notes segments, and the points and gaps in their records.
func extend(h *head, recs []journal.Record, made []segmentRef) {
	i := 0
	for _, r := range recs {
		for r.Seq > made[i].Last {
			i++
		}
		open := len(h.Gaps) > 0 && h.Gaps[len(h.Gaps)-1].To == 0
		switch r.Kind {
		case journal.Point:
			h.Points = append(h.Points, PointInfo{ID: r.Point.ID, At: r.Point.At, Seq: r.Seq, Consistency: r.Point.Consistency,
				Tag: r.Point.Tag, Chain: made[i].chain()})
		case journal.GapBegin:
			if open {
				h.Gaps[len(h.Gaps)-1].From = min(h.Gaps[len(h.Gaps)-1].From, r.From)
			} else {
				h.Gaps = append(h.Gaps, Gap{From: r.From})
			}
		case journal.GapEnd:
			if open {
				h.Gaps[len(h.Gaps)-1].To = r.Seq
			} else {
				h.Gaps = append(h.Gaps, Gap{From: r.Seq, To: r.Seq}) // the manifest has its beginning, if it has one
			}
		}
	}
	h.Tail = append(h.Tail, made...)
	h.Seq, h.Chain = made[len(made)-1].Last, made[len(made)-1].chain()
}

// Position is the last position known to be committed.
func (w *Writer) Position() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.st.Seq
}

// Close ends the writer. The stream stays; nothing is lost.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fenced == nil {
		w.fenced = fail("append to", w.spec.ID, ErrFenced, "the writer is closed")
	}
	return nil
}
