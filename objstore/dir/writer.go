package dir

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ownDir    = ".understudy"
	lockDir   = ownDir + "/locks"
	writerDir = ownDir + "/writers"
	stripes   = 64 // locks; keys share them by their hash
)

// writer is where one open store writes files before they are renamed. Its lock, which ends with the process, says that it lives.
type writer struct {
	root *os.Root
	dir  string
	lock *os.File
	next atomic.Int64
}

func newWriter(root *os.Root) (*writer, error) {
	removeDead(root)
	for {
		w := &writer{root: root, dir: writerDir + "/" + rand.Text()}
		if err := root.Mkdir(w.dir, 0o700); err != nil {
			return nil, err
		}
		var err error
		if w.lock, err = root.Open(w.dir); errors.Is(err, fs.ErrNotExist) {
			continue // taken for a dead one before it was locked
		} else if err != nil {
			return nil, err
		}
		err = unix.Flock(int(w.lock.Fd()), unix.LOCK_EX)
		if _, gone := root.Stat(w.dir); err == nil && gone == nil {
			return w, nil
		}
		if closed := w.lock.Close(); err != nil || closed != nil {
			return nil, errors.Join(err, closed)
		}
	}
}

// removeDead removes what killed writers left. What it cannot remove the next one will.
func removeDead(root *os.Root) {
	d, err := root.Open(writerDir)
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		dir := writerDir + "/" + name
		f, err := root.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = root.RemoveAll(dir)
		}
		_ = f.Close()
	}
}

// write gives the name of a new file that holds data, synced.
func (w *writer) write(data []byte) (string, error) {
	name := fmt.Sprintf("%s/%d", w.dir, w.next.Add(1))
	f, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = w.root.Remove(name)
		return "", err
	}
	return name, nil
}

func (w *writer) close() error {
	return errors.Join(w.root.RemoveAll(w.dir), w.lock.Close())
}

// lock takes the lock that key shares with some others, against goroutines and processes. It gives up when ctx ends: a process
// that was stopped may hold a lock for as long as it likes.
func (s *Store) lock(ctx context.Context, key string) (unlock func(), err error) {
	name := fmt.Sprintf("%s/%02x", lockDir, sha256.Sum256([]byte(key))[0]%stripes)
	f, err := s.root.OpenFile(path.Clean(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-t.C:
		}
	}
}
