package volume

import (
	"context"
	"fmt"
	"sync"
)

// syncer has one sync for all who ask while another is under way.
type syncer struct {
	mu          sync.Mutex
	cond        *sync.Cond
	running     bool
	begun, done uint64
	failed      error
}

// run answers when a sync that began after the call has ended. A sync that failed is the last: what it should have made durable may be
// lost, though a second attempt would succeed.
func (s *syncer) run(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cond == nil {
		s.cond = sync.NewCond(&s.mu)
	}
	for mine := s.begun + 1; s.done < mine && s.failed == nil; {
		if s.running {
			s.cond.Wait()
			continue
		}
		s.running = true
		s.begun++
		n := s.begun
		s.mu.Unlock()
		err := do()
		s.mu.Lock()
		s.running, s.done = false, n
		if err != nil {
			s.failed = fmt.Errorf("volume: %w: %w", ErrFailed, err)
		}
		s.cond.Broadcast()
	}
	return s.failed
}

// Flush implements nbd.Backend.
func (v *Volume) Flush(context.Context) error {
	if err := v.begin(0, 0); err != nil {
		return err
	}
	defer v.end()
	return v.flush()
}

func (v *Volume) flush() error {
	return v.sync.run(func() error {
		whole := v.nPresent.Load() == v.present.n
		then := v.meta.snapshot(&v.present)
		if err := v.data.Sync(); err != nil {
			return err
		}
		if err := v.meta.settle(then, &v.written); err != nil {
			return err
		}
		if whole {
			v.complete.Store(true)
		}
		return nil
	})
}

// pageWords are the words of some pages of a bitmap as they were.
type pageWords map[int64][]uint64

// snapshot takes what has become present. Its data was written, and is durable after the next sync of the data.
func (m *mapFile) snapshot(present *bitmap) pageWords {
	m.mu.Lock()
	defer m.mu.Unlock()
	then := m.copyOf(present, m.changed[durablePresent])
	m.changed[durablePresent] = pages{}
	return then
}

func (m *mapFile) copyOf(b *bitmap, of pages) pageWords {
	then := pageWords{}
	for p := range of {
		first, end := pageRange(p, b)
		words := make([]uint64, 0, end-first)
		for w := first; w < end; w++ {
			words = append(words, loadWord(b, w))
		}
		then[p] = words
	}
	return then
}

// pageRange is which words of a bitmap are in a page.
func pageRange(p int64, b *bitmap) (first, end int64) {
	return p * page / 8, min((p+1)*page/8, int64(len(b.words)))
}

// settle makes durable what is written now, and then that the granules of then are present: not the other way round, nor both at once, since a
// power cut may keep one page and lose another. From the first on those granules count as durably present for who writes to them: see prepare.
func (m *mapFile) settle(then pageWords, written *bitmap) error {
	wrote, err := m.adopt(then, written)
	if err != nil || len(then)+len(wrote) == 0 {
		return err
	}
	if len(wrote) > 0 {
		if err := m.f.Sync(); err != nil {
			return err
		}
		for p, words := range wrote {
			first, _ := pageRange(p, &m.kept)
			for i, w := range words {
				orWord(&m.kept, first+int64(i), w)
			}
		}
	}
	if len(then) == 0 {
		return nil
	}
	m.mu.Lock()
	for p := range then {
		first, end := pageRange(p, &m.durable[durablePresent])
		if err = m.writeWords(durablePresent, &m.durable[durablePresent], first, end); err != nil {
			break
		}
	}
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("volume map: %w", err)
	}
	return m.f.Sync()
}

// adopt takes both over in memory, and writes what is written to the file.
func (m *mapFile) adopt(then pageWords, written *bitmap) (wrote pageWords, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wrote = m.copyOf(written, m.changed[durableWritten])
	m.changed[durableWritten] = pages{}
	for which, set := range []pageWords{then, wrote} {
		b := &m.durable[which]
		for p, words := range set {
			first, end := pageRange(p, b)
			for i, w := range words {
				orWord(b, first+int64(i), w)
			}
			if which != durableWritten {
				continue
			}
			if err := m.writeWords(which, b, first, end); err != nil {
				return nil, fmt.Errorf("volume map: %w", err)
			}
		}
	}
	return wrote, nil
}

// prepare a write to granules first to before end: it is remembered that they were written, and where the data could outlive a power cut
// without the memory of it, the memory is made durable first. A granule that is not durably present is fetched anew after a power cut,
// and its unflushed writes are gone with it; unless the file was made in place, where a fetch leaves some of it alone.
func (v *Volume) prepare(first, end int64) error {
	if v.meta.kept.all(first, end) {
		return nil
	}
	if _, err := v.meta.mark(currentWritten, &v.written, first, end); err != nil {
		return err
	}
	return v.meta.intend(first, end, v.inPlace)
}

// intend makes durable that granules are written, those that are durably present or all.
func (m *mapFile) intend(first, end int64, all bool) error {
	m.mu.Lock()
	var due []int64
	for g := first; g < end; g++ {
		if !m.kept.get(g) && (all || m.durable[durablePresent].get(g)) {
			m.durable[durableWritten].set(g)
			due = append(due, g)
		}
	}
	var err error
	if len(due) > 0 {
		err = m.writeWords(durableWritten, &m.durable[durableWritten], due[0]/64, due[len(due)-1]/64+1)
	}
	m.mu.Unlock()
	if err != nil || len(due) == 0 {
		return err
	}
	if err := m.f.Sync(); err != nil {
		return fmt.Errorf("volume map: %w", err)
	}
	for _, g := range due {
		m.kept.set(g)
	}
	return nil
}
