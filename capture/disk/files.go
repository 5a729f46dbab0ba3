package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// directory is what capture asks of the place of its files. Files have their full size from the start, so that a full
// file system cannot refuse a later write into them, nor a store into their mapping. Tests put one beneath that loses power.
type directory interface {
	// create makes a file of zeroes; it refuses a name that exists. It outlives a power cut once sync was called.
	create(name string, size int64) (file, error)
	open(name string) (file, error)
	remove(name string) error
	list() ([]string, error)
	sync() error
	// lock keeps other processes out until release, or the end of the process.
	lock() (release func(), err error)
}

// file is one of them.
type file interface {
	io.ReaderAt
	io.WriterAt
	size() int64
	// mapped is the file's content as shared memory: stores outlive the process at once, a power cut after sync.
	mapped() ([]byte, error)
	sync() error
	close() error
}

// osDirectory is a directory of the host.
type osDirectory string

func (d osDirectory) path(name string) string { return filepath.Join(string(d), name) }

func (d osDirectory) create(name string, size int64) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := reserve(f, size); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &osFile{f: f, n: size}, nil
}

// reserve gives the file its blocks; where the file system cannot, zeroes are written.
func reserve(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	zeroes := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(zeroes)) {
		if _, err := f.WriteAt(zeroes[:min(int64(len(zeroes)), size-off)], off); err != nil {
			return err
		}
	}
	return nil
}

func (d osDirectory) open(name string) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{f: f, n: info.Size()}, nil
}

func (d osDirectory) remove(name string) error { return os.Remove(d.path(name)) }

func (d osDirectory) list() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d osDirectory) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ErrBusy says that another process captures into the directory.
var ErrBusy = errors.New("another capture uses the directory")

func (d osDirectory) lock() (func(), error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", d, ErrBusy), f.Close())
	}
	return func() { f.Close() }, nil
}

type osFile struct {
	f   *os.File
	n   int64
	mem []byte
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error)  { return f.f.ReadAt(p, off) }
func (f *osFile) WriteAt(p []byte, off int64) (int, error) { return f.f.WriteAt(p, off) }
func (f *osFile) size() int64                              { return f.n }
func (f *osFile) sync() error                              { return unix.Fdatasync(int(f.f.Fd())) }

func (f *osFile) mapped() (mem []byte, err error) {
	if f.mem == nil {
		f.mem, err = unix.Mmap(int(f.f.Fd()), 0, int(f.n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	return f.mem, err
}

func (f *osFile) close() error {
	var err error
	if f.mem != nil {
		err = unix.Munmap(f.mem)
		f.mem = nil
	}
	return errors.Join(err, f.f.Close())
}

// missing tells whether an error of open says that there is no such file.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
