package volume

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// file is what a volume asks of the place of its bytes. Tests put one beneath that loses power.
type file interface {
	io.ReaderAt
	io.WriterAt
	// Punch makes a range read as zeroes and gives its space back where that can be done.
	Punch(off, n int64) error
	// Data is the next range from off on that may hold something else than zeroes, up to end; n is 0 if there is none.
	Data(off, end int64) (at, n int64, err error)
	// Sync makes durable what was written before.
	Sync() error
	Close() error
}

// osFile is a file of the host.
type osFile struct{ *os.File }

func (f osFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }

func (f osFile) Punch(off, n int64) error {
	err := again(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	zeroes := make([]byte, min(n, 1<<20))
	for n > 0 {
		m := min(n, int64(len(zeroes)))
		if _, err := f.WriteAt(zeroes[:m], off); err != nil {
			return err
		}
		off, n = off+m, n-m
	}
	return nil
}

func (f osFile) Data(off, end int64) (at, n int64, err error) {
	at, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO), err == nil && at >= end:
		return end, 0, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP): // it cannot tell: all may be data
		return off, end - off, nil
	case err != nil:
		return 0, 0, err
	}
	hole, err := unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	return at, min(hole, end) - at, nil
}

// again repeats what a signal interrupted.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
