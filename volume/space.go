package volume

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fullError: there is no space, for which reason. Nobody waits for space while he holds granules, so that reads of them are served.
type fullError string

func (e fullError) Error() string { return "volume: no space: " + string(e) }

const (
	errQuota   = fullError("quota")
	errNoSpace = fullError("no space")
)

// retryEvery is how often a request that waits tries again, also when nobody wakes it: somebody else may have freed something.
const retryEvery = 250 * time.Millisecond

// space bounds what the file takes. Requests that find none wait; their guest waits with them, and sees no error.
type space struct {
	mu            sync.Mutex
	quota, filled int64
	closed        bool
	wake          chan struct{} // closed when something changes
	waiters       int
	why           string
	since         time.Time
	waited        time.Duration
}

func (s *space) report(st *Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.FilledBytes, st.QuotaBytes, st.Waited = s.filled, s.quota, s.waited
	if s.waiters > 0 {
		st.Waiting, st.Waited = s.why, s.waited+time.Since(s.since)
	}
}

func (s *space) setQuota(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = n
	s.changed()
}

func (s *space) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed()
}

// changed wakes those who wait. The caller has mu.
func (s *space) changed() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// take up to want granules, at least least: how many were taken; 0 if there is no space.
func (s *space) take(want, least int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := want
	if s.quota > 0 {
		n = min(want, max(0, s.quota-s.filled)/Granule)
	}
	if n < least {
		return 0
	}
	s.filled += n * Granule
	return n
}

// free gives granules back.
func (s *space) free(n int64) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filled -= n * Granule
	s.changed()
}

// wait after a request found no space, until something has changed or a while has passed. Any other error is given back.
func (s *space) wait(ctx context.Context, err error) error {
	var full fullError
	if !errors.As(err, &full) {
		return err
	}
	wake, err := s.startWaiting(string(full))
	if err != nil {
		return err
	}
	defer s.stopWaiting()
	t := time.NewTimer(retryEvery)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wake:
	case <-t.C:
	}
	return nil
}

func (s *space) startWaiting(why string) (wake chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.wake == nil {
		s.wake = make(chan struct{})
	}
	if s.waiters == 0 {
		s.since = time.Now()
	}
	s.waiters++
	s.why = why
	return s.wake, nil
}

func (s *space) stopWaiting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiters--; s.waiters == 0 {
		s.waited += time.Since(s.since)
	}
}

// fillAll takes space for all granules from first to before end that have none.
func (v *Volume) fillAll(first, end int64) error {
	want := int64(0)
	for g := first; g < end; g++ {
		if !v.filled.get(g) {
			want++
		}
	}
	if want == 0 {
		return nil
	}
	if v.space.take(want, want) < want {
		return errQuota
	}
	v.occupy(first, end, want)
	return nil
}

// occupy marks granules filled, for which so many were taken. Another request may have taken some of them meanwhile.
func (v *Volume) occupy(first, end, taken int64) {
	for g := first; g < end; g++ {
		if v.filled.set(g) {
			taken--
		}
	}
	v.space.free(taken)
}

// fillSome takes space for granules from first on, up to before end, as many as there is space for, and answers up to where.
func (v *Volume) fillSome(first, end int64) (int64, error) {
	to := v.filled.run(first, end)
	if v.filled.get(first) {
		return to, nil
	}
	n := v.space.take(to-first, 1)
	if n == 0 {
		return first, errQuota
	}
	v.occupy(first, first+n, n)
	return first + n, nil
}

// store writes p to the file, whose granules have space.
func (v *Volume) store(p []byte, off int64) error {
	_, err := v.data.WriteAt(p, off)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errNoSpace
	}
	return err
}
