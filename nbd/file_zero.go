package nbd

import (
	"context"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Zero implements Backend: in the file system's own way if it has one, at the cost of a range, whatever its length.
func (d *File) Zero(ctx context.Context, off, n int64, mayTrim, fua bool) error {
	if err := d.enterToChange(); err != nil {
		return err
	}
	defer d.leave()
	defer d.known.forget()
	if err := d.zero(ctx, off, n, mayTrim); err != nil {
		return err
	}
	if fua {
		return d.sync()
	}
	return nil
}

// Trim implements Backend. What is trimmed reads back as zeroes.
func (d *File) Trim(ctx context.Context, off, n int64, fua bool) error {
	return d.Zero(ctx, off, n, true, fua)
}

func (d *File) zero(ctx context.Context, off, n int64, mayTrim bool) error {
	const keep = unix.FALLOC_FL_KEEP_SIZE
	if !mayTrim {
		if ok, err := d.allocate(&d.noZero, unix.FALLOC_FL_ZERO_RANGE|keep, off, n); ok {
			return err
		}
	}
	if ok, err := d.allocate(&d.noPunch, unix.FALLOC_FL_PUNCH_HOLE|keep, off, n); ok {
		if err != nil || mayTrim {
			return err
		}
		if ok, err := d.allocate(&d.noAlloc, keep, off, n); ok { // the space stays reserved
			return err
		}
		return d.writeZeros(ctx, off, n)
	}
	if mayTrim {
		if ok, err := d.allocate(&d.noZero, unix.FALLOC_FL_ZERO_RANGE|keep, off, n); ok {
			return err
		}
	}
	return d.writeZeros(ctx, off, n)
}

// allocate calls fallocate, unless the file system has said before that it does not know the mode; then ok is false.
func (d *File) allocate(unknown *atomic.Bool, mode uint32, off, n int64) (ok bool, err error) {
	if unknown.Load() {
		return false, nil
	}
	for {
		switch err := unix.Fallocate(d.fd, mode, off, n); err {
		case unix.EINTR:
			continue
		case unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV, unix.EPERM:
			unknown.Store(true)
			return false, nil
		case unix.EINVAL: // this range is not in the device's blocks
			return false, nil
		default:
			return true, d.failed("fallocate", off, err)
		}
	}
}

var zeros [1 << 20]byte

func (d *File) writeZeros(ctx context.Context, off, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := min(n, int64(len(zeros)))
		if err := d.write(zeros[:part], off, false); err != nil {
			return err
		}
		off, n = off+part, n-part
	}
	return nil
}
