package dir_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/objtest"
)

func TestFullDiskLosesNothing(t *testing.T) {
	path := shm(t)
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount needs root: %v", err)
	}
	s := open(t, path)
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), unix.Unmount(path, 0)); err != nil {
			t.Error(err)
		}
	})
	old := objtest.Bytes(1, 300_000)
	tag, err := s.Put(t.Context(), "head", old, objstore.IfAbsent)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // what a failed put began must not fill the disk for good
		_, err = s.Put(t.Context(), "head", make([]byte, 900_000), objstore.IfMatch(tag))
		if !errors.Is(err, objstore.ErrNoSpace) || !objstore.Retryable(err) {
			t.Fatalf("put to a full disk: %v", err)
		}
	}
	if data, now, err := s.Get(t.Context(), "head"); err != nil || now != tag || !bytes.Equal(data, old) {
		t.Fatalf("the old object: %d bytes, %v", len(data), err)
	}
	if _, err = s.Put(t.Context(), "head", objtest.Bytes(2, 300_000), objstore.IfMatch(tag)); err != nil {
		t.Errorf("with room for it: %v", err)
	}
}

// TestStoppedHolderOfALock stands for a process that was stopped inside a put.
func TestStoppedHolderOfALock(t *testing.T) {
	path := shm(t)
	s := open(t, path)
	if _, err := s.Put(t.Context(), "x", []byte("old"), objstore.Always); err != nil {
		t.Fatal(err)
	}
	locks, err := filepath.Glob(path + "/.understudy/locks/*")
	if err != nil || len(locks) != 1 {
		t.Fatalf("locks %q, %v", locks, err)
	}
	f, err := os.Open(locks[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Put(ctx, "x", []byte("new"), objstore.Always)
	if !errors.Is(err, objstore.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("put under another's lock: %v", err)
	}
	if data, _, err := s.Get(t.Context(), "x"); string(data) != "old" || err != nil {
		t.Errorf("a read waits for no lock: %q, %v", data, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "x", []byte("new"), objstore.Always); err != nil {
		t.Errorf("after the lock: %v", err)
	}
}
