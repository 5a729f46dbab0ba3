package replication

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errSpoolFull says that the file system has no room for a batch.
var errSpoolFull = errors.New("the spool's file system is full")

// spool keeps one stream's batches until they are stored. One goroutine at a time appends; reading, syncing and removing
// what is stored may go on beside it.
type spool struct {
	dir    string
	room   *budget
	rotate int64 // size in bytes from which a new file is begun

	mu    sync.Mutex
	info  StreamInfo
	files []*spoolFile // by number; the last one grows. None: removed
}

// createSpool makes the directory of a stream whose last stored position is base.
func createSpool(dir string, room *budget, rotate int64, info StreamInfo, base uint64) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &spool{dir: dir, room: room, rotate: rotate, info: info}
	if err := s.begin(1, base); err != nil {
		return nil, fmt.Errorf("spool of stream %s: %w", info.Stream, err)
	}
	return s, syncDir(filepath.Dir(dir))
}

// openSpool reads what an earlier life left, cuts off what is torn, and shows every whole frame to see. It gives nil if nothing is left.
func openSpool(dir string, room *budget, rotate int64, see func(*frame)) (*spool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	s := &spool{dir: dir, room: room, rotate: rotate}
	torn := false
	for _, e := range entries { // sorted by name, hence by number
		if _, ok := fileNumber(e.Name()); !ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if !torn {
			if torn, err = s.load(path, see); err != nil {
				return nil, errors.Join(fmt.Errorf("spool %s: %w", dir, err), s.close())
			}
		}
		if torn && (len(s.files) == 0 || s.files[len(s.files)-1].f.Name() != path) {
			if err := os.Remove(path); err != nil {
				return nil, errors.Join(err, s.close())
			}
		}
	}
	if len(s.files) == 0 {
		return nil, os.RemoveAll(dir)
	}
	// A crash of the process left the newest file in the page cache only.
	return s, errors.Join(fsync(s.newest().f), syncDir(dir))
}

// load adds a file; torn says that nothing after it counts.
func (s *spool) load(path string, see func(*frame)) (torn bool, err error) {
	f, h, err := openFile(path)
	if errors.Is(err, errTorn) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if n := len(s.files); n > 0 {
		if old := s.files[n-1]; h.number != old.number+1 || h.base != old.last || h.info.Epoch != s.info.Epoch || h.info.Stream != s.info.Stream {
			return true, f.f.Close()
		}
	}
	s.info = h.info
	s.files = append(s.files, f)
	for {
		fr, err := readFrame(f.f, f.size, f.last)
		if errors.Is(err, errTorn) {
			break
		}
		if err != nil {
			s.room.add(f.size) // close gives it back
			return false, err
		}
		f.size, f.last = f.size+int64(fr.bytes), fr.last
		see(fr)
	}
	s.room.add(f.size)
	end, err := f.f.Seek(0, 2)
	if err != nil || end == f.size {
		return false, err
	}
	return true, errors.Join(f.f.Truncate(f.size), fsync(f.f))
}

// begin starts a file. The caller has the lock, or is alone.
func (s *spool) begin(number, base uint64) error {
	f, err := createFile(s.dir, &fileHeader{number: number, base: base, created: time.Now(), info: s.info})
	if err != nil {
		return err
	}
	s.room.add(f.size)
	s.files = append(s.files, f)
	return nil
}

func (s *spool) newest() *spoolFile { return s.files[len(s.files)-1] }

// span gives the position before the first record that is there, and the last one.
func (s *spool) span() (base, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[0].base, s.newest().last
}

// append writes a batch behind the others. Room for frameHead and the batch must have been taken; on an error it is given back.
// errSpoolFull: the file is as it was.
func (s *spool) append(batch []byte, last uint64, arrived time.Time) error {
	err := s.write(batch, last, arrived)
	if err != nil {
		s.room.give(int64(frameHead + len(batch)))
	}
	return err
}

func (s *spool) write(batch []byte, last uint64, arrived time.Time) error {
	s.mu.Lock()
	f := s.newest()
	s.mu.Unlock()
	if f.size >= s.rotate {
		var err error
		if f, err = s.turn(f); err != nil {
			return err
		}
	}
	head := encodeFrameHead(len(batch), arrived)
	_, err := f.f.WriteAt(head[:], f.size)
	if err == nil {
		_, err = f.f.WriteAt(batch, f.size+frameHead)
	}
	if err != nil {
		return errors.Join(noSpace(err), f.f.Truncate(f.size))
	}
	s.mu.Lock()
	f.size, f.last = f.size+int64(frameHead+len(batch)), last
	s.mu.Unlock()
	return nil
}

// turn syncs the newest file for good and begins the next.
func (s *spool) turn(f *spoolFile) (*spoolFile, error) {
	if err := fsync(f.f); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(f.number+1, f.last); err != nil {
		return nil, noSpace(err)
	}
	return s.newest(), nil
}

// sync makes everything durable that was appended before the call. Older files are already.
func (s *spool) sync() error {
	s.mu.Lock()
	f := s.newest()
	s.mu.Unlock()
	if err := fsync(f.f); err != nil && !errors.Is(err, os.ErrClosed) { // closed: it is stored
		return err
	}
	return nil
}

// discard removes the files that have nothing after a stored position. The newest is replaced by an empty one if it has
// nothing else and has grown; it must be quiet then: nothing is appended beside the call.
func (s *spool) discard(stored uint64, quiet bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return nil
	}
	if f := s.newest(); quiet && f.last > f.base && f.last <= stored && (f.size >= s.rotate/2 || s.room.full()) {
		if err := s.begin(f.number+1, f.last); err != nil {
			return noSpace(err)
		}
	}
	var gone []*spoolFile
	for len(s.files) > 1 && s.files[0].last <= stored {
		gone, s.files = append(gone, s.files[0]), s.files[1:]
	}
	return s.drop(gone)
}

// drop removes files, oldest first.
func (s *spool) drop(files []*spoolFile) error {
	var errs []error
	var n int64
	for _, f := range files {
		errs = append(errs, f.f.Close(), os.Remove(f.f.Name()))
		n += f.size
	}
	if len(files) > 0 {
		s.room.give(n)
	}
	return errors.Join(errs...)
}

// close leaves the files for another life.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	var n int64
	for _, f := range s.files {
		errs = append(errs, f.f.Close())
		n += f.size
	}
	s.files = nil
	s.room.give(n)
	return errors.Join(errs...)
}

// remove deletes everything, newest first: what a crash leaves of it is a beginning.
func (s *spool) remove() error {
	s.mu.Lock()
	files := slices.Clone(s.files)
	s.files = nil
	s.mu.Unlock()
	slices.Reverse(files)
	return errors.Join(s.drop(files), os.RemoveAll(s.dir))
}

// cursor reads a spool from its beginning, frame by frame.
type cursor struct {
	s     *spool
	file  *spoolFile
	off   int64
	after uint64 // last position read
}

func (s *spool) reader() *cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[0]
	return &cursor{s: s, file: f, off: f.start, after: f.base}
}

// next gives the frame that follows; the caller knows that there is one. An error means that the spool is damaged.
func (c *cursor) next() (*frame, error) {
	c.s.mu.Lock()
	for c.off == c.file.size {
		i := slices.Index(c.s.files, c.file)
		if i+1 == len(c.s.files) {
			c.s.mu.Unlock()
			return nil, fmt.Errorf("%w: file %d has no frame at %d", errTorn, c.file.number, c.off)
		}
		c.file = c.s.files[i+1]
		c.off = c.file.start
	}
	c.s.mu.Unlock()
	fr, err := readFrame(c.file.f, c.off, c.after)
	if err != nil && !errors.Is(err, errTorn) { // a disk that fails will not give it back later either
		err = fmt.Errorf("%w: %w", errTorn, err)
	}
	if err != nil {
		return nil, fmt.Errorf("spool file %d at %d: %w", c.file.number, c.off, err)
	}
	c.off, c.after = c.off+int64(fr.bytes), fr.last
	return fr, nil
}

// noSpace makes a full file system known as errSpoolFull.
func noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", errSpoolFull, err)
	}
	return err
}
