package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// FileOptions say how to open a disk.
type FileOptions struct {
	// ReadOnly opens the file for reading; changes are refused with ErrReadOnly.
	ReadOnly bool
}

// File is a raw disk in a file or on a block device: a Backend over the page cache. Flush and fua mean fdatasync. It does not lock
// the file; that only one writes is its owner's business.
type File struct {
	f    *os.File
	fd   int
	size int64
	opts FileOptions

	closing sync.RWMutex // held for reading by every call
	closed  bool

	known   extentCache
	noPunch atomic.Bool // the file system cannot make holes
	noZero  atomic.Bool // nor convert to zeroes in place
	noAlloc atomic.Bool // nor reserve space
}

// OpenFile opens a disk. Its size is the file's, and must be a multiple of 512.
func OpenFile(path string, opts FileOptions) (*File, error) {
	mode := os.O_RDWR
	if opts.ReadOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	size, err := sizeOf(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{f: f, fd: int(f.Fd()), size: size, opts: opts}, nil
}

func sizeOf(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() && info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
		return 0, fmt.Errorf("%s: a %v is no disk: want a file or a block device", f.Name(), info.Mode())
	}
	size, err := f.Seek(0, io.SeekEnd) // block devices state no size
	if err != nil {
		return 0, err
	}
	if size%sectorSize != 0 {
		return 0, fmt.Errorf("%s: size of %d bytes: want a multiple of %d", f.Name(), size, sectorSize)
	}
	return size, nil
}

// Size implements Backend.
func (d *File) Size() int64 { return d.size }

// Close waits for calls under way. Calls after it fail with ErrClosed. It may be called again.
func (d *File) Close() error {
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.f.Close()
}

// enter holds the file open until leave.
func (d *File) enter() error {
	d.closing.RLock()
	if d.closed {
		d.closing.RUnlock()
		return ErrClosed
	}
	return nil
}

func (d *File) leave() { d.closing.RUnlock() }

func (d *File) enterToChange() error {
	if d.opts.ReadOnly {
		return ErrReadOnly
	}
	return d.enter()
}

// ReadAt implements Backend.
func (d *File) ReadAt(_ context.Context, p []byte, off int64) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	for len(p) > 0 {
		n, err := unix.Pread(d.fd, p, off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return d.failed("read", off, err)
		case n == 0:
			return d.failed("read", off, io.ErrUnexpectedEOF) // the file was cut short
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// WriteAt implements Backend.
func (d *File) WriteAt(_ context.Context, p []byte, off int64, fua bool) error {
	if err := d.enterToChange(); err != nil {
		return err
	}
	defer d.leave()
	return d.write(p, off, fua)
}

func (d *File) write(p []byte, off int64, fua bool) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(d.fd, p, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return d.failed("write", off, err)
		}
		p, off = p[n:], off+int64(n)
	}
	if fua {
		return d.sync()
	}
	return nil
}

// Flush implements Backend.
func (d *File) Flush(context.Context) error {
	if d.opts.ReadOnly {
		return nil
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	return d.sync()
}

func (d *File) sync() error {
	for {
		if err := unix.Fdatasync(d.fd); err != unix.EINTR {
			return d.failed("sync", 0, err)
		}
	}
}

func (d *File) failed(op string, off int64, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s at %d: %w", op, d.f.Name(), off, err)
}
