package replication

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

const block = 512

// fakeSource is a machine whose every write is remembered: a model of a capture. Its queue is bounded; when that is full, or
// when the far side asks for what is gone, the stream gets a gap and dirty blocks are read again.
type fakeSource struct {
	mu               sync.Mutex
	changed          chan struct{}
	disk             []uint64 // by block: the number that was written last
	writes           uint64   // numbers given to writes
	seq              uint64
	queue            []journal.Record // not released
	handed           int              // of the queue by Next
	limit            int              // records in the queue
	dirty            map[int]uint64   // block → seq of its last write
	inGap            bool
	gapFrom          uint64
	gapAt            time.Time
	gaps             int
	stored, released uint64
	size             int // bytes of a write
}

func newFakeSource(blocks, limit int) *fakeSource {
	return &fakeSource{changed: make(chan struct{}), disk: make([]uint64, blocks), limit: limit, dirty: map[int]uint64{}, size: block}
}

func (s *fakeSource) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// content of a block that was written with a number.
func content(n uint64, size int) []byte {
	b := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], n)
	}
	return b
}

// write writes a block and never waits.
func (s *fakeSource) write(at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.disk[at] = s.writes
	s.dirty[at] = s.seq + 1
	if !s.inGap && len(s.queue) < s.limit {
		s.put(journal.Record{Kind: journal.Write, Off: int64(at * s.size), Len: int64(s.size), Data: content(s.writes, s.size)})
	} else {
		s.openGap(s.seq + 1)
		s.seq++ // numbered, and missing in the stream
	}
}

func (s *fakeSource) point(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.inGap {
		s.put(journal.Record{Kind: journal.Point, Point: &journal.PointInfo{ID: id, At: time.Now().UTC(), Consistency: journal.Crash}})
	}
}

func (s *fakeSource) put(r journal.Record) {
	s.seq++
	r.Seq, r.Time = s.seq, time.Now().UnixNano()
	s.queue = append(s.queue, r)
	s.change()
}

func (s *fakeSource) openGap(from uint64) {
	if !s.inGap {
		s.inGap, s.gapFrom, s.gapAt = true, from, time.Now()
		s.gaps++
	}
	s.gapFrom = min(s.gapFrom, from)
}

// closeGap reads dirty blocks again, all at once, when everything before is released.
func (s *fakeSource) closeGap() {
	if !s.inGap || len(s.queue) > 0 {
		return
	}
	s.put(journal.Record{Kind: journal.GapBegin, From: s.gapFrom})
	for at := range s.dirty {
		s.put(journal.Record{Kind: journal.Write, Flags: journal.Resync, Off: int64(at * s.size), Len: int64(s.size), Data: content(s.disk[at], s.size)})
		s.dirty[at] = s.seq
	}
	s.put(journal.Record{Kind: journal.GapEnd})
	s.inGap = false
}

func (s *fakeSource) Next(ctx context.Context) ([]journal.Record, error) {
	for {
		s.mu.Lock()
		s.closeGap()
		if s.handed < len(s.queue) {
			out := append([]journal.Record(nil), s.queue[s.handed:min(len(s.queue), s.handed+100)]...)
			s.handed += len(out)
			s.mu.Unlock()
			return out, nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

func (s *fakeSource) Release(upTo uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.queue) && s.queue[n].Seq <= upTo {
		n++
	}
	s.queue, s.handed, s.released = s.queue[n:], max(0, s.handed-n), max(s.released, upTo)
	s.change()
}

func (s *fakeSource) Stored(upTo uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = max(s.stored, upTo)
	for at, seq := range s.dirty {
		if seq <= upTo {
			delete(s.dirty, at)
		}
	}
}

func (s *fakeSource) Rewind(from uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from <= s.released || from > s.seq+1 {
		if from > s.seq+1 || from <= s.stored {
			panic(fmt.Sprintf("the far side is at %d; %d are stored, %d numbered", from-1, s.stored, s.seq))
		}
		s.queue, s.handed = nil, 0
		s.openGap(from)
		s.change()
		return false
	}
	s.handed = 0
	for s.handed < len(s.queue) && s.queue[s.handed].Seq < from {
		s.handed++
	}
	s.change()
	return true
}

func (s *fakeSource) lag() Lag {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := Lag{Captured: s.seq, InGap: s.inGap}
	if len(s.queue) > 0 {
		l.Oldest = time.Unix(0, s.queue[0].Time)
	}
	if s.inGap {
		l.Oldest = s.gapAt
	}
	for i := range s.queue {
		l.QueueBytes += s.queue[i].Len
	}
	return l
}

// quiet tells whether everything is stored.
func (s *fakeSource) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored == s.seq && !s.inGap && len(s.queue) == 0
}
