package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
)

// propose appends n records of the writer's own to its log. Sometimes records are lost and a gap opens.
func (w *world) propose(l *log, writer string, n int) {
	for range n {
		seq := l.last() + 1
		rec := journal.Record{Seq: seq, Kind: journal.Write, Disk: uint16(w.rng.IntN(2)), Off: int64(w.rng.IntN(blocks-8)) * journal.Sector}
		switch k := w.rng.IntN(40); {
		case k < 26:
			rec.Len = int64(1+w.rng.IntN(6)) * journal.Sector
			rec.Data = make([]byte, rec.Len)
			sum := fnv.New64a()
			fmt.Fprint(sum, writer, seq)
			for i := 0; i < len(rec.Data); i += 8 {
				binary.LittleEndian.PutUint64(rec.Data[i:], sum.Sum64())
			}
		case k < 29:
			rec.Kind, rec.Len = journal.Zero, int64(1+w.rng.IntN(8))*journal.Sector
		case k == 29 && !l.gap:
			lost := uint64(w.rng.IntN(5))
			rec = journal.Record{Seq: seq + lost, Kind: journal.GapBegin, From: seq}
			l.gap = true
		case k < 32 && l.gap:
			rec, l.gap = journal.Record{Seq: seq, Kind: journal.GapEnd}, false
		default:
			rec = journal.Record{Seq: seq, Kind: journal.Point, Point: &journal.PointInfo{ID: fmt.Sprint("p", seq), At: time.Unix(int64(seq), 0).UTC(),
				Consistency: journal.Crash}}
		}
		l.recs = append(l.recs, rec)
	}
}

// writer takes the stream and extends it until it is fenced; then it waits, or is given the next epoch.
func (w *world) writer(name string) func(context.Context, *Vault) error {
	epoch := uint64(1)
	return func(ctx context.Context, v *Vault) error {
		wr, err := v.Writer(ctx, spec(simStream, epoch))
		if errors.Is(err, ErrFenced) {
			if w.rng.IntN(4) == 0 {
				w.epoch++
				epoch = w.epoch
			}
			return nil
		}
		if err != nil {
			return ignore(err)
		}
		l := w.logs[wr.nonce]
		if l == nil {
			w.fail("%s was told it has the stream, which it never had", name)
			return nil
		}
		for w.rng.IntN(40) > 0 {
			if open := len(l.recs) - committed(l.recs, wr.Position()); open < 12 {
				w.propose(l, name, 1+w.rng.IntN(8))
			}
			batch := l.recs[committed(l.recs, wr.Position()):]
			if len(batch) == 0 {
				w.fail("%s stands at %d, past all that it wrote", name, wr.Position())
				return nil
			}
			seq, err := wr.Append(ctx, batch)
			if err == nil && (seq != batch[len(batch)-1].Seq || w.head.Seq < seq && w.headNow() < seq) {
				w.fail("%s was told that %d is stored; the head says %d", name, seq, w.headNow())
			}
			if errors.Is(err, ErrFenced) {
				return nil
			}
			w.judge(name, err)
		}
		return nil // as if it had crashed
	}
}

// headNow is the committed position as the store has it.
func (w *world) headNow() uint64 {
	b, _, err := w.inner.Get(context.Background(), headKey(simStream))
	if err != nil {
		return 0
	}
	h, err := w.eye.decodeHead(simStream, b)
	if err != nil {
		return 0
	}
	return h.Seq
}

// ignore hides what a faulty store explains.
func ignore(err error) error {
	if err == nil || Damage(err) {
		return err
	}
	return nil
}

func (w *world) compactor(ctx context.Context, v *Vault) error {
	_, err := v.Compact(ctx, simStream)
	if errors.Is(err, ErrNoStream) {
		_, err = v.store.Head(ctx, rootKey)
	}
	return ignore(err)
}

// alwaysKept are the points that no pruner drops.
func alwaysKept(seq uint64) bool { return seq%3 == 0 }

func (w *world) pruner(ctx context.Context, v *Vault) error {
	salt := w.rng.Uint64()
	_, err := v.Prune(ctx, simStream, func(points []PointInfo) []bool {
		keep := make([]bool, len(points))
		for i, p := range points {
			keep[i] = alwaysKept(p.Seq) || (p.Seq^salt)%4 != 0
		}
		return keep
	})
	return ignore(err)
}

func (w *world) collector(ctx context.Context, v *Vault) error {
	_, err := v.Collect(ctx, simStream, simTime, 0)
	return ignore(err)
}

// reader opens a point or the end, and reads it for a long time.
func (w *world) reader(ctx context.Context, v *Vault) error {
	points, err := v.Points(ctx, simStream)
	if err != nil || len(points) == 0 {
		return ignore(err)
	}
	p := points[w.rng.IntN(len(points))]
	for range 3 { // rather one that a pruner may drop
		if alwaysKept(p.Seq) {
			p = points[w.rng.IntN(len(points))]
		}
	}
	view, err := v.View(ctx, simStream, p.Seq)
	if errors.Is(err, ErrNotKept) && w.everDropped(p.Seq) || errors.Is(err, ErrInGap) {
		return nil
	}
	if errors.Is(err, ErrNotKept) {
		w.fail("point %d: %v", p.Seq, err)
	}
	if err != nil {
		return ignore(err)
	}
	defer view.Close()
	want := w.owner.at(p.Seq)
	for w.rng.IntN(25) > 0 {
		d := w.rng.IntN(2)
		from := w.rng.IntN(blocks) * journal.Sector
		buf := make([]byte, min(blocks*journal.Sector-from, (1+w.rng.IntN(100))*journal.Sector))
		if _, err := view.Disk(d).ReadAt(ctx, buf, int64(from)); err != nil {
			if err = ignore(err); err != nil {
				return fmt.Errorf("pinned view at %d: %w", p.Seq, err)
			}
			continue
		}
		if !bytes.Equal(buf, want[d][from:from+len(buf)]) {
			w.fail("a view at %d reads other bytes at %d of disk %d", p.Seq, from, d)
		}
	}
	return nil
}

// everDropped tells whether a pruner may have dropped a point since it was offered.
func (w *world) everDropped(seq uint64) bool { return !alwaysKept(seq) }

// end checks, without faults, that everything that must be there is, that what is offered reads back, and that garbage goes.
func (w *world) end() {
	ctx := context.Background()
	w.store.SetFaults(false)
	w.store.Settle(ctx)
	w.look()
	if len(w.wrong) > 0 || w.head == nil {
		return
	}
	w.checkPoints()
	steps := []func() error{
		func() error { _, err := w.eye.Compact(ctx, simStream); return err },
		func() error { _, err := w.eye.Collect(ctx, simStream, simTime.Add(10*time.Hour), 0); return err },
		func() error { _, err := w.eye.Collect(ctx, simStream, simTime.Add(10*time.Hour), 0); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			w.fail("at the end: %v", err)
			return
		}
	}
	w.look()
	w.checkPoints()
	w.checkGarbage()
}

// validIn gives the points of the truth that no gap spoils.
func (l *log) validIn(end uint64) []uint64 {
	var points []uint64
	from := ^uint64(0)
	for _, r := range l.recs {
		if r.Seq > end {
			break
		}
		switch r.Kind {
		case journal.GapBegin:
			from = min(from, r.From)
			points = slices.DeleteFunc(points, func(p uint64) bool { return p >= from })
		case journal.GapEnd:
			from = ^uint64(0)
		case journal.Point:
			if from == ^uint64(0) {
				points = append(points, r.Seq)
			}
		}
	}
	return points
}

func (w *world) checkPoints() {
	ctx := context.Background()
	points, err := w.eye.Points(ctx, simStream)
	if err != nil {
		w.fail("points: %v", err)
		return
	}
	offered := seqs(points)
	valid := w.owner.validIn(w.head.Seq)
	for _, seq := range valid {
		if alwaysKept(seq) && !slices.Contains(offered, seq) {
			w.fail("point %d is gone", seq)
		}
	}
	for _, seq := range offered {
		if !slices.Contains(valid, seq) {
			w.fail("point %d is offered; it lies in a gap or never was", seq)
		}
		w.checkView(seq)
	}
	if !w.owner.inGap(w.head.Seq) {
		w.checkView(w.head.Seq)
	}
}

func (l *log) inGap(end uint64) bool {
	gap := false
	for _, r := range l.recs {
		if r.Seq <= end {
			gap = r.Kind == journal.GapBegin || gap && r.Kind != journal.GapEnd || r.Seq == end && r.Kind == journal.GapEnd
		}
	}
	return gap
}

func (w *world) checkView(seq uint64) {
	ctx := context.Background()
	view, err := w.eye.View(ctx, simStream, seq)
	if err != nil {
		w.fail("view at %d: %v", seq, err)
		return
	}
	defer view.Close()
	if err := w.owner.compare(ctx, view); err != nil {
		w.fail("%v", err)
	}
}

// checkGarbage: once pins have run out, nothing lies in the store that nobody refers to.
func (w *world) checkGarbage() {
	ctx := context.Background()
	st, err := w.eye.load(ctx, simStream)
	if err != nil {
		w.fail("%v", err)
		return
	}
	named := st.named()
	named[headKey(simStream)], named[streamKey(simStream, "garbage")] = true, true
	left := ""
	if err := w.inner.List(ctx, "streams/", "", func(i objstore.Info) bool {
		if !named[group(simStream, i.Key)] {
			left = i.Key
		}
		return left == ""
	}); err != nil || left != "" {
		w.fail("%s is left, %v", left, err)
	}
}
