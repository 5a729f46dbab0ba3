package disk

import (
	"context"
	"sync"
)

// spans serialises overlapping ranges of a disk, in order of arrival: whoever asks waits for all earlier ones that overlap.
// There are as many as requests under way, so a list does.
type spans struct {
	mu  sync.Mutex
	all []*span // in order of arrival
}

type span struct {
	off, end int64
	over     chan struct{} // made by the first who waits; closed by unlock
}

// lock returns when no earlier overlapping range is held. With an error nothing is held.
func (s *spans) lock(ctx context.Context, off, n int64) (*span, error) {
	mine := &span{off: off, end: off + n}
	var before []chan struct{}
	s.mu.Lock()
	for _, o := range s.all {
		if o.off < mine.end && mine.off < o.end {
			if o.over == nil {
				o.over = make(chan struct{})
			}
			before = append(before, o.over)
		}
	}
	s.all = append(s.all, mine)
	s.mu.Unlock()
	for _, over := range before {
		select {
		case <-over:
		case <-ctx.Done():
			// Whoever waits for this range waits by itself for what it overlaps of the earlier ones.
			s.unlock(mine)
			return nil, ctx.Err()
		}
	}
	return mine, nil
}

func (s *spans) unlock(mine *span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.all {
		if o == mine {
			s.all = append(s.all[:i], s.all[i+1:]...)
			break
		}
	}
	if mine.over != nil {
		close(mine.over)
	}
}
