package qemu

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/hypervisor"
)

// serialPiece is the most that Serial answers.
const serialPiece = 1 << 20

// Serial output of a machine.
func (d *Driver) Serial(_ context.Context, name string, offset int64) ([]byte, error) {
	b, err := d.serial(name, offset)
	return b, fail("read serial port of", name, err)
}

func (d *Driver) serial(name string, offset int64) ([]byte, error) {
	if _, err := d.definition(name); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(d.dir(name), serialFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if offset < 0 {
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return nil, err
		}
		offset = max(0, size+offset)
	}
	return io.ReadAll(io.NewSectionReader(f, offset, serialPiece))
}

// boundSerial gives back the room of what was written long ago: a guest that talks without end must not fill the host's disk. Offsets
// stay; QEMU goes on where it was. A file system that cannot do that keeps everything.
func boundSerial(dir string) error {
	path := filepath.Join(dir, serialFile)
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil || s.Blocks*512 < 2*hypervisor.SerialKept {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, s.Size-hypervisor.SerialKept)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
