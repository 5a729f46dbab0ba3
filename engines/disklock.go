package engines

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/api"
)

// DiskLocks keep the disks of a machine for one engine of the node, for as long as its process lives or until they are given back. What
// writes to a disk that another engine has open, by whatever mistake, would spoil it.
type DiskLocks []*os.File

// ErrDiskTaken says that another engine of the node has a disk open.
var ErrDiskTaken = errors.New("another engine of this node has it open")

// LockDisks takes disks by their paths, all or none.
func LockDisks(disks []api.MachineDisk) (taken DiskLocks, err error) {
	for _, d := range disks {
		f, err := os.Open(d.Path)
		if err == nil {
			taken = append(taken, f)
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrDiskTaken
		}
		if err != nil {
			taken.Close()
			return nil, fmt.Errorf("disk %s: %s: %w", d.Name, d.Path, err)
		}
	}
	return taken, nil
}

// Close gives the disks back.
func (l DiskLocks) Close() {
	for _, f := range l {
		f.Close()
	}
}
