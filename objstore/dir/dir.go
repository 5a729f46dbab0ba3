// Package dir is an object store in a directory: an object is a plain file whose path is its key. Several processes may use one
// directory at once.
//
// A write goes to a file of the writer's own, is synced, and is renamed into place under a lock of its key; then the directories are
// synced. So a crash leaves the old object or the new one, whole, and what was acknowledged is on the disk.
//
// The tag of an object is the SHA-256 of its bytes: the same bytes have the same tag, also when they were written anew. Head reads the
// object to know it; List leaves it out.
//
// The directory .understudy inside belongs to this package: locks/NN, flocked by who changes a key, and writers/NAME, flocked by the
// process that has the store open. What a killed writer left there is removed by the next Open.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/understudy-ha/understudy/objstore"
)

// Store is one directory. Close it.
type Store struct {
	root   *os.Root
	writer *writer

	use    sync.RWMutex // read: a call is under way; write: Close
	closed bool

	mu      sync.Mutex
	durable map[string]bool // directories whose names are known to be on the disk
}

var _ objstore.Store = (*Store)(nil)

// Open gives the store in the directory at p, which must exist: a directory that is made by mistake, where a disk should have been mounted,
// would look like a store that lost everything.
func Open(_ context.Context, p string) (*Store, error) {
	root, err := os.OpenRoot(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &objstore.Error{Op: "open", Key: p, Kind: objstore.ErrDenied, Cause: err, Hint: "make the directory, or mount its disk"}
	}
	if err != nil {
		return nil, failure("open", p, err)
	}
	s := &Store{root: root, durable: map[string]bool{".": true}}
	for _, d := range []string{lockDir, writerDir} {
		if err := s.makeDirs(d); err != nil {
			return nil, errors.Join(failure("open", p, err), root.Close())
		}
	}
	if s.writer, err = newWriter(root); err != nil {
		return nil, errors.Join(failure("open", p, err), root.Close())
	}
	return s, nil
}

// begin guards one call against Close. When it gives nil, s.use.RUnlock is due.
func (s *Store) begin(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: err}
	}
	s.use.RLock()
	if s.closed {
		s.use.RUnlock()
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable, Cause: objstore.ErrClosed}
	}
	return nil
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, objstore.Tag, error) {
	data, _, err := s.read(ctx, "get", key)
	if err != nil {
		return nil, "", err
	}
	return data, tagOf(data), nil
}

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	data, info, err := s.read(ctx, "head", key)
	if err != nil {
		return objstore.Info{}, err
	}
	return objstore.Info{Key: key, Size: info.Size(), Tag: tagOf(data), Modified: info.ModTime()}, nil
}

func (s *Store) read(ctx context.Context, op, key string) ([]byte, fs.FileInfo, error) {
	if err := objstore.ValidKey(op, key); err != nil {
		return nil, nil, err
	}
	if err := s.begin(ctx, op, key); err != nil {
		return nil, nil, err
	}
	defer s.use.RUnlock()
	data, info, err := s.readFile(key)
	if err != nil {
		return nil, nil, failure(op, key, err)
	}
	return data, info, nil
}

// readFile reads the one file that the key names at the time of opening it; renames do not change what is open.
func (s *Store) readFile(key string) ([]byte, fs.FileInfo, error) {
	f, info, err := s.openFile(key)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, nil, err
	}
	return data, info, nil
}

func (s *Store) openFile(key string) (*os.File, fs.FileInfo, error) {
	f, err := s.root.Open(key)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fs.ErrNotExist // a directory is no object
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%w: %s is not a plain file", fs.ErrPermission, key)
	case info.Size() > objstore.MaxObject:
		err = fmt.Errorf("%w: %d bytes, which nobody wrote through this store", fs.ErrPermission, info.Size())
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// GetRange implements objstore.Store.
func (s *Store) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	const op = "get range of"
	if err := objstore.ValidRange(op, key, off, n); err != nil {
		return nil, err
	}
	if err := s.begin(ctx, op, key); err != nil {
		return nil, err
	}
	defer s.use.RUnlock()
	f, info, err := s.openFile(key)
	if err != nil {
		return nil, failure(op, key, err)
	}
	defer f.Close()
	if off+n > info.Size() {
		return nil, &objstore.Error{Op: op, Key: key, Kind: objstore.ErrRange,
			Cause: fmt.Errorf("offset %d, length %d, object %d bytes", off, n, info.Size())}
	}
	data := make([]byte, n)
	if _, err := f.ReadAt(data, off); err != nil {
		return nil, failure(op, key, err)
	}
	return data, nil
}

// makeDirs makes d and what is above it, and sees that their names are on the disk, also where another process made them.
func (s *Store) makeDirs(d string) error {
	s.mu.Lock()
	known := s.durable[d]
	s.mu.Unlock()
	if known {
		return nil
	}
	if err := s.makeDirs(path.Dir(d)); err != nil {
		return err
	}
	if err := s.makeDir(d); err != nil {
		return err
	}
	if err := s.syncDir(path.Dir(d)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable[d] = true
	return nil
}

func (s *Store) makeDir(d string) error {
	err := s.root.Mkdir(d, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := s.root.Stat(d)
	if err == nil && !info.IsDir() {
		return errNoDir
	}
	return err
}

func (s *Store) syncDir(d string) error {
	f, err := s.root.Open(d)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Close implements objstore.Store. It waits for calls under way.
func (s *Store) Close() error {
	s.use.Lock()
	defer s.use.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.writer.close(), s.root.Close())
}
