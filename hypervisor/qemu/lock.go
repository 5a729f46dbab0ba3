package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// aliveFile is locked by QEMU itself while it lives, by a descriptor that it inherits. It tells of a QEMU that was started
// by a process that died before it was seen to be up.
const aliveFile = "alive"

// lockEvery is how often a lock that somebody else has is tried.
const lockEvery = 20 * time.Millisecond

// locked runs change while nobody else, in any process, changes the machine.
func (d *Driver) locked(ctx context.Context, name string, change func() error) error {
	if !validDir(d.dir(name)) {
		return d.missing(name)
	}
	f, err := lock(ctx, filepath.Join(d.dir(name), lockFile))
	if err != nil {
		return err
	}
	defer f.Close()
	return change()
}

func validDir(dir string) bool {
	fi, err := os.Stat(dir)
	return err == nil && fi.IsDir()
}

// missing is why a machine without a directory cannot be changed.
func (d *Driver) missing(name string) error {
	_, err := d.definition(name)
	return err
}

// lock waits for the lock on a file, which it makes.
func lock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(lockEvery):
		}
	}
}

// settle finds the machine's process, and waits for one that is being born to name itself. The caller has the machine's lock.
func settle(ctx context.Context, dir string) (*process, error) {
	for {
		p, err := find(dir)
		if err != nil || p != nil {
			return p, err
		}
		f, err := os.OpenFile(filepath.Join(dir, aliveFile), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		f.Close()
		if err == nil {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("a process of the machine is alive and does not name itself: %w", ctx.Err())
		case <-time.After(lockEvery):
		}
	}
}
