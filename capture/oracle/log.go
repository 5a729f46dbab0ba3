// Package oracle judges what a capture recorded against what another witness saw: a log in the format of the kernel's
// dm-log-writes, as QEMU's blklogwrites driver writes it above the captured disk. It is support for tests and for the lab.
//
// A log is read entry by entry, so its size does not matter; what is compared are hashes.
package oracle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/understudy-ha/understudy/journal"
)

// Entry is one step of a log.
type Entry struct {
	// Flush: everything that was answered before is durable. An entry of the kernel may be a flush and a write; here that is two.
	Flush bool
	FUA   bool
	// Off and Len are bytes; Data is nil where the range is zeroed or discarded.
	Off, Len int64
	Data     []byte
}

func (e Entry) String() string {
	switch {
	case e.Flush:
		return "flush"
	case e.Data == nil:
		return fmt.Sprintf("zero [%d, +%d)", e.Off, e.Len)
	}
	return fmt.Sprintf("write [%d, +%d)", e.Off, e.Len)
}

// Entries are a log, in order. An error ends it.
type Entries = iter.Seq2[Entry, error]

// The format of Documentation/admin-guide/device-mapper/log-writes.rst.
const (
	superMagic   = 0x6a736677736872
	superVersion = 1
	superLength  = 28
	entryLength  = 32

	flagFlush   = 1
	flagFUA     = 2
	flagDiscard = 4
	flagMark    = 8
)

// ErrLog says that a log cannot be read.
var ErrLog = errors.New("not a log of writes")

// maxEntry bounds what an entry may carry, in bytes.
const maxEntry = 1 << 30

// ReadLog reads a log of dm-log-writes. Marks are left out.
func ReadLog(r io.ReaderAt) Entries {
	return func(yield func(Entry, error) bool) {
		if err := readLog(r, yield); err != nil {
			yield(Entry{}, err)
		}
	}
}

func readLog(r io.ReaderAt, yield func(Entry, error) bool) error {
	head := make([]byte, superLength)
	if _, err := r.ReadAt(head, 0); err != nil {
		return fmt.Errorf("%w: super block: %w", ErrLog, err)
	}
	le := binary.LittleEndian
	if magic, version := le.Uint64(head), le.Uint64(head[8:]); magic != superMagic || version != superVersion {
		return fmt.Errorf("%w: magic %x version %d; want %x version %d", ErrLog, magic, version, superMagic, superVersion)
	}
	count, sector := le.Uint64(head[16:]), int64(le.Uint32(head[24:]))
	if sector < 512 || sector > 64<<10 || sector&(sector-1) != 0 {
		return fmt.Errorf("%w: sectors of %d bytes", ErrLog, sector)
	}
	at := sector
	for i := range count {
		b := make([]byte, entryLength)
		if _, err := r.ReadAt(b, at); err != nil {
			return fmt.Errorf("%w: entry %d of %d: %w", ErrLog, i, count, err)
		}
		at += sector
		first, n, flags := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])
		if first > 1<<50 || n > 1<<40 {
			return fmt.Errorf("%w: entry %d is at sector %d, %d long", ErrLog, i, first, n)
		}
		e := Entry{Off: int64(first) * sector, Len: int64(n) * sector, FUA: flags&flagFUA != 0}
		if flags&(flagDiscard|flagMark) == 0 && n > 0 {
			if e.Len > maxEntry {
				return fmt.Errorf("%w: entry %d has %d bytes of data", ErrLog, i, e.Len)
			}
			e.Data = make([]byte, e.Len)
			if _, err := r.ReadAt(e.Data, at); err != nil {
				return fmt.Errorf("%w: data of entry %d: %w", ErrLog, i, err)
			}
			at += e.Len
		}
		if flags&flagFlush != 0 && !yield(Entry{Flush: true}, nil) {
			return nil
		}
		if flags&flagMark == 0 && n > 0 && !yield(e, nil) {
			return nil
		}
	}
	return nil
}

// FromRecords sees one disk's part of a stream as a log. Points, gaps and other disks' records are left out.
func FromRecords(recs iter.Seq[journal.Record], disk uint16) Entries {
	return func(yield func(Entry, error) bool) {
		for r := range recs {
			e := Entry{Off: r.Off, Len: r.Len, FUA: r.Flags&journal.FUA != 0}
			switch {
			case r.Disk != disk:
				continue
			case r.Kind == journal.Flush:
				e.Flush = true
			case r.Kind == journal.Write:
				e.Data = r.Data
			case r.Kind != journal.Zero:
				continue
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Apply carries an entry out on an image.
func (e Entry) Apply(image io.WriterAt) error {
	if e.Flush {
		return nil
	}
	data := e.Data
	if data == nil {
		data = make([]byte, e.Len)
	}
	_, err := image.WriteAt(data, e.Off)
	return err
}
