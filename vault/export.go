package vault

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
)

// Sparse takes a disk image: writes where there is something, holes elsewhere. *os.File is one.
type Sparse interface {
	io.WriterAt
	Truncate(size int64) error
}

// ExportRaw writes one disk of a view as a raw image. What reads as zeroes is not written: the target is empty before. progress, if not
// nil, is told the bytes done and to do.
func (w *View) ExportRaw(ctx context.Context, disk int, to Sparse, progress func(done, total int64)) error {
	d := w.Disk(disk)
	if err := to.Truncate(0); err != nil {
		return err
	}
	if err := to.Truncate(d.Size()); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	var failed error
	err := d.Extents(ctx, 0, d.Size(), func(off, n int64, zero bool) bool {
		for end := off + n; off < end && !zero && failed == nil; {
			p := buf[:min(int64(len(buf)), end-off)]
			if _, failed = d.ReadAt(ctx, p, off); failed == nil {
				_, failed = to.WriteAt(p, off)
			}
			off += int64(len(p))
			if progress != nil {
				progress(off, d.Size())
			}
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if err == nil && progress != nil {
		progress(d.Size(), d.Size())
	}
	return err
}

// The dm-log-writes format, as the kernel's log-writes.rst and dm-log-writes.c have it. Little endian, in sectors of 512 bytes.
const (
	logMagic   = 0x6a736677736872
	logVersion = 1
	logSector  = 512
	logFlush   = 1
	logFUA     = 2
	logDiscard = 4
	logMark    = 8
)

// logWriter writes a dm-log-writes log. The super block, which counts the entries, comes last.
type logWriter struct {
	to      io.WriterAt
	w       *bufio.Writer
	entries uint64
}

func newLogWriter(to io.WriterAt) *logWriter {
	return &logWriter{to: to, w: bufio.NewWriterSize(io.NewOffsetWriter(to, logSector), 1<<20)}
}

// entry writes one entry: a sector of its own, then the data, which is a multiple of a sector. A mark's text lies behind the entry in its sector.
func (l *logWriter) entry(off, n int64, flags uint64, data []byte, mark string) error {
	var s [logSector]byte
	le := binary.LittleEndian
	le.PutUint64(s[0:], uint64(off/logSector))
	le.PutUint64(s[8:], uint64(n/logSector))
	le.PutUint64(s[16:], flags)
	if flags&logMark != 0 {
		mark = mark[:min(len(mark), logSector-32-1)]
		le.PutUint64(s[24:], uint64(len(mark)))
		copy(s[32:], mark)
	}
	l.entries++
	if _, err := l.w.Write(s[:]); err != nil {
		return err
	}
	_, err := l.w.Write(data)
	return err
}

func (l *logWriter) close() error {
	if err := l.w.Flush(); err != nil {
		return err
	}
	var s [logSector]byte
	le := binary.LittleEndian
	le.PutUint64(s[0:], logMagic)
	le.PutUint64(s[8:], logVersion)
	le.PutUint64(s[16:], l.entries)
	le.PutUint32(s[24:], logSector)
	if _, err := l.to.WriteAt(s[:], 0); err != nil {
		return fmt.Errorf("super block: %w", err)
	}
	return nil
}
