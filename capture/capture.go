// Package capture is about taking every write to a machine's protected disks, in order, and never losing one silently.
// It holds what all ways of capturing share: the Source that a sender drains, and the figures by which people and tests
// judge it. capture/disk captures underneath an NBD export.
//
// What is promised: a write that was answered is either in the stream, or its block is marked dirty and the stream has a
// gap until the block was read again. Every position outside a gap is a prefix of the machine's completed writes over all
// its disks. The source is never made to wait for the far side.
package capture

import (
	"context"
	"errors"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// ErrInGap says that the stream has a gap just now: no point is valid. Try again later.
var ErrInGap = errors.New("the stream has a gap: points are refused until it is closed")

// ErrClosed says that the capture was closed.
var ErrClosed = errors.New("the capture is closed")

// Source is what a sender needs of a capture. One sender at a time uses it; its methods may be called from several
// goroutines.
//
// A sender that (re)connects first calls Rewind with the first position that the far side does not have.
type Source interface {
	// Next returns the records that follow what was handed out before, at least one; it waits for them until ctx ends.
	// They follow each other by journal.Follows: positions are missing only before a GapBegin. The records and their data
	// must not be changed, and are the caller's to read until it releases them.
	Next(ctx context.Context) ([]journal.Record, error)
	// Release says that everything up to a position is kept by the far side: memory up to there is free.
	Release(upTo uint64)
	// Stored says that everything up to a position is stored at the recovery site. It alone clears dirty bits.
	Stored(upTo uint64)
	// Rewind says that the far side has the positions below from only. It answers true if everything from there on is still
	// in memory: Next goes on with it. Otherwise the stream gets a gap, and Next goes on with its GapBegin.
	Rewind(from uint64) bool
	// Position tells how far everything is, all at one instant.
	Position() Position
}

// Position of a stream at one instant.
type Position struct {
	Stream string
	Epoch  uint64
	// Captured is the last position that was given, 0 for none; Released and Stored are the far side's latest words.
	Captured, Released, Stored uint64
	// QueueBytes and QueueRecords are held in memory until they are released.
	QueueBytes   int64
	QueueRecords int
	// OldestUnsent is when the oldest record that is not released was captured; in a gap not later than its beginning. Zero:
	// everything is released.
	OldestUnsent time.Time
	// InGap: no point is valid just now. GapFrom is the first position that may be missing.
	InGap   bool
	GapFrom uint64
	// Shipping is false while records are not meant to be sent: only dirty bits are kept.
	Shipping   bool
	Counters   Counters
	Resync     Progress
	Conditions []Condition
}

// Counters of a stream, in records. A record counts if it is a change (Write or Zero) made by the machine; flushes,
// points, gap marks and blocks that were read again do not count.
//
//	Captured  took a number
//	Stored    took a number that Stored has passed, and was either delivered by Next or lies in a gap whose GapEnd was
//	          delivered and passed too
//	Dirty     took a number and is still held by a dirty bitmap
//
// Captured = Stored + Dirty whenever they are read together. Captured is counted where numbers are given, Stored where
// records leave the queue, Dirty where bits are set and bitmaps are dropped: a record that gets lost between them breaks
// the equation. They go on after a restart; Captured is then taken as the sum of the two.
type Counters struct{ Captured, Stored, Dirty uint64 }

// Hold tells whether every captured record is stored or dirty.
func (c Counters) Hold() bool { return c.Captured == c.Stored+c.Dirty }

// Progress of reading dirty blocks again (a gap that closes, or the initial copy).
type Progress struct {
	// TotalBytes were dirty when the gap began to close, RemainingBytes have not been read again, in whole granules.
	TotalBytes, RemainingBytes int64
	// SentBytes went into the stream as data; ZeroBytes as ranges of zeroes; SkippedBytes did not need to: the far side has
	// the same already. They count since the stream or the process started.
	SentBytes, ZeroBytes, SkippedBytes int64
	// Started is when reading began; zero: nothing is read.
	Started time.Time
}

// Range of a disk in bytes, multiples of 512. The disk is its index.
type Range struct {
	Disk     uint16
	Off, Len int64
}

// Condition is something that people should know and that ends by itself when its cause does.
type Condition struct {
	Code  string // one of the constants below
	Text  string
	Since time.Time
}

// Codes of conditions.
const (
	// MetadataFailing: the directory of bitmaps and logs cannot be written: disks work on, everything is taken as dirty, no
	// points.
	MetadataFailing = "CaptureMetadataFailing"
	// MetadataFull: no new bitmap can be made: bitmaps grow older than they should, and gaps cannot close.
	MetadataFull = "CaptureMetadataFull"
	// ReadFailing: a dirty block cannot be read again, so the gap cannot close.
	ReadFailing = "CaptureReadFailing"
	// PowerLost: the machine lost power; what was hot is compared or sent again.
	PowerLost = "CapturePowerLost"
	// HistoryMismatch: the far side knows another past than this directory; everything is sent again.
	HistoryMismatch = "CaptureHistoryMismatch"
)
