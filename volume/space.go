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
	// room tells how many bytes the file system has to give; nil: it says so itself when it is full.
	room func() int64

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

// take up to want granules, at least least: how many were taken, or a fullError if there is no space.
func (s *space) take(want, least int64) (int64, error) {
	n := want
	if s.room != nil {
		n = min(want, max(0, s.room())/Granule)
	}
	if n < least {
		return 0, errNoSpace
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quota > 0 {
		n = min(n, max(0, s.quota-s.filled)/Granule)
	}
	if n < least {
		return 0, errQuota
	}
	s.filled += n * Granule
	return n, nil
}

// maxKept is the most that a file system keeps free if nobody says how much, in bytes; a 20th of it if that is less.
const maxKept = 1 << 30

// roomOf tells what the file system of a file can give without having less than keep bytes left. Others live there as well: who would have to
// make room must not be stopped by the lack of it.
func roomOf(fd int, keep int64) (func() int64, error) {
	var kind unix.Stat_t
	var st unix.Statfs_t
	if err := errors.Join(unix.Fstat(fd, &kind), unix.Fstatfs(fd, &st)); err != nil {
		return nil, err
	}
	if kind.Mode&unix.S_IFMT != unix.S_IFREG { // a device has its own space
		return nil, nil
	}
	if keep == 0 {
		keep = min(maxKept, int64(st.Blocks)*st.Bsize/20)
	}
	if keep < 0 {
		return nil, nil
	}
	return func() int64 {
		var st unix.Statfs_t
		if unix.Fstatfs(fd, &st) != nil {
			return 1 << 62 // it will say so itself
		}
		return int64(st.Bavail)*st.Bsize - keep
	}, nil
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
	if _, err := v.space.take(want, want); err != nil {
		return err
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
	n, err := v.space.take(to-first, 1)
	if err != nil {
		return first, err
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
