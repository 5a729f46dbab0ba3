package disk

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/journal"
)

// remote is a far side: what it spooled, and what it stored, each as images.
type remote struct {
	mu       sync.Mutex
	spooled  uint64
	stored   uint64
	image    [][]byte // at spooled
	kept     [][]byte // at stored
	pending  []journal.Record
	points   map[string][][]byte // what a point is to look like, by its id
	seen     int                 // points that were compared
	open     bool                // in a gap, at spooled
	keptOpen bool                // at stored
	problems []string
}

func newRemote(sizes []int64) *remote {
	r := &remote{points: map[string][][]byte{}}
	for _, n := range sizes {
		r.image, r.kept = append(r.image, make([]byte, n)), append(r.kept, make([]byte, n))
	}
	return r
}

func apply(image [][]byte, rec *journal.Record) {
	switch rec.Kind {
	case journal.Write:
		copy(image[rec.Disk][rec.Off:], rec.Data)
	case journal.Zero:
		clear(image[rec.Disk][rec.Off:rec.End()])
	}
}

func (r *remote) complain(format string, args ...any) {
	if len(r.problems) < 5 {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

// spool takes a batch.
func (r *remote) spool(recs []journal.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range recs {
		if err := rec.Validate(); err != nil {
			r.complain("%v", err)
		}
		if !journal.Follows(r.spooled, &rec) {
			r.complain("record %d (%s, from %d) follows %d", rec.Seq, rec.Kind, rec.From, r.spooled)
		}
		rec.Data = bytes.Clone(rec.Data)
		r.spooled = rec.Seq
		r.pending = append(r.pending, rec)
		apply(r.image, &rec)
		switch rec.Kind {
		case journal.GapBegin:
			r.open = true
		case journal.GapEnd:
			r.open = false
		case journal.Point:
			r.checkPoint(&rec)
		}
	}
}

func (r *remote) checkPoint(rec *journal.Record) {
	if r.open {
		r.complain("point %d lies in a gap", rec.Seq)
	}
	want, known := r.points[rec.Point.ID]
	if !known {
		return
	}
	r.seen++
	for i := range want {
		if !bytes.Equal(want[i], r.image[i]) {
			r.complain("point %d: disk %d differs", rec.Seq, i)
		}
	}
}

// store makes a part of what is spooled stored.
func (r *remote) store(upTo uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.pending) && r.pending[n].Seq <= upTo {
		apply(r.kept, &r.pending[n])
		switch r.pending[n].Kind {
		case journal.GapBegin:
			r.keptOpen = true
		case journal.GapEnd:
			r.keptOpen = false
		}
		r.stored = r.pending[n].Seq
		n++
	}
	r.pending = r.pending[n:]
}

// forget loses the spool.
func (r *remote) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending, r.spooled, r.open = nil, r.stored, r.keptOpen
	for i := range r.kept {
		r.image[i] = bytes.Clone(r.kept[i])
	}
}

// clone is the far side as it is, for another life.
func (r *remote) clone() *remote {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &remote{spooled: r.spooled, stored: r.stored, pending: slices.Clone(r.pending), points: maps.Clone(r.points), seen: r.seen, open: r.open, keptOpen: r.keptOpen, problems: r.problems}
	for i := range r.kept {
		c.image, c.kept = append(c.image, bytes.Clone(r.image[i])), append(c.kept, bytes.Clone(r.kept[i]))
	}
	return c
}

func (r *remote) positions() (spooled, stored uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spooled, r.stored
}

// drain sends until ctx ends, with pauses and lags by chance, and now and then as if the connection was lost.
func (r *remote) drain(ctx context.Context, m *Machine, rnd *rand.Rand, w *world) {
	r.reconnect(m)
	for ctx.Err() == nil {
		c, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		recs, err := m.Next(c)
		cancel()
		if err == nil {
			leave := w.enter()
			r.spool(recs)
			leave()
		}
		spooled, stored := r.positions()
		switch rnd.IntN(8) {
		case 0, 1, 2:
			m.Release(spooled)
		case 3, 4, 5:
			leave := w.enter()
			r.store(stored + rnd.Uint64N(spooled-stored+1))
			leave()
			_, stored = r.positions()
			m.Stored(stored)
		case 6:
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
		case 7:
			if rnd.IntN(10) == 0 {
				if rnd.IntN(3) == 0 {
					leave := w.enter()
					r.forget()
					leave()
				}
				r.reconnect(m)
			}
		}
	}
}

func (r *remote) reconnect(m *Machine) {
	spooled, _ := r.positions()
	m.Rewind(spooled + 1)
}

// finish drains everything in order, and returns when the stream has no gap and all is stored.
func (r *remote) finish(t *testing.T, m *Machine) {
	t.Helper()
	r.reconnect(m)
	deadline := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		recs, err := m.Next(ctx)
		cancel()
		if err == nil {
			r.spool(recs)
		}
		spooled, _ := r.positions()
		r.store(spooled)
		m.Release(spooled)
		m.Stored(spooled)
		if p := m.Position(); err != nil && !p.InGap && p.Stored == p.Captured {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("the stream does not end: %+v", p)
		}
	}
}

func (r *remote) check(t *testing.T, w *world) {
	t.Helper()
	for _, p := range r.problems {
		t.Error(p)
	}
	for i, d := range w.disks {
		if at := differs(d.content(), r.kept[i]); at >= 0 {
			t.Errorf("disk %d: what is stored differs from the disk at %d", i, at)
		}
	}
}

func differs(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// covered asserts that every block whose content is not what is stored is dirty.
func (r *remote) covered(t *testing.T, w *world, m *Machine) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	dirty := m.DirtyRanges()
	for i, d := range w.disks {
		cur := d.content()
		for off := int64(0); off < int64(len(cur)); off += 512 {
			if !bytes.Equal(cur[off:off+512], r.kept[i][off:off+512]) && !inside(dirty, uint16(i), off) {
				t.Errorf("disk %d: sector at %d is neither stored nor dirty", i, off)
				return
			}
		}
	}
}

func inside(ranges []capture.Range, disk uint16, off int64) bool {
	for _, r := range ranges {
		if r.Disk == disk && off >= r.Off && off < r.Off+r.Len {
			return true
		}
	}
	return false
}
