// Package volume is a local disk over a recovery point: a sparse raw file, and a map of what it holds already. What the file
// lacks is read from a base, the recovery point, when it is first needed; Hydrate fetches the rest in the background. When nothing
// is lacking, the file is the whole disk, and requests go to it with nothing between but one bit.
//
// The disk is divided in granules of 64 KiB. A granule is absent, and then the base holds it; or present, and then the file does. It
// never becomes absent again. A whole granule is written without asking the base; of a granule that is written in part, the rest is
// fetched first.
//
// What the process acknowledged outlives the process. What Flush acknowledged, or a write with fua, outlives a power cut. After a power
// cut granules that were not flushed are absent again; docs/formats/volume.md says how that is known.
package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/nbd"
)

const (
	// Granule in bytes.
	Granule = 64 << 10
	sector  = 512
)

// Base is what the disk was at the recovery point. Methods are safe for concurrent use; offsets and lengths are multiples of 512.
type Base interface {
	Size() int64
	// ReadAt fills p.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// Extents tells which parts of a range read as zeroes, in order and without gaps from off. It may stop early, but yields at
	// least one.
	Extents(ctx context.Context, off, n int64, yield func(off, n int64, zero bool) bool) error
}

// Range of a disk, in bytes, multiples of 512.
type Range struct {
	Off, Len int64
}

// Config of a volume.
type Config struct {
	// Path of the raw file. The map is beside it, Path + ".map".
	Path string
	// Base; may be nil once the volume is complete.
	Base Base
	// QuotaBytes bounds what the file's granules take; 0 for no bound. When it is reached, or the file system is full, writes wait.
	QuotaBytes int64
	// KeepFreeBytes is what the file system keeps free: it counts as full when it has no more. 0: a 20th of it, at most 1 GiB. Less than 0: nothing.
	KeepFreeBytes int64
	// InPlace is looked at when the volume is made: the file at Path is there and holds the disk, except for Missing, which the base
	// has. Ranges of Missing may stand in any order and overlap. Otherwise the file is made, and all of it is the base's.
	InPlace bool
	Missing []Range
}

var (
	// ErrClosed: the volume was closed.
	ErrClosed = errors.New("volume: closed")
	// ErrNoBase: the base is needed, and none was given.
	ErrNoBase = errors.New("the volume is not complete and has no base")
	// ErrFailed: the file could not be synced before. What it holds is unknown until the volume is opened again.
	ErrFailed = errors.New("an earlier sync failed")
)

// Volume implements nbd.Backend. All methods may be called concurrently.
type Volume struct {
	data file
	meta *mapFile
	base Base
	size int64
	// missing are the parts that the file lacked when it was made in place, sorted; nil if it was made empty.
	missing []Range
	inPlace bool

	present, written bitmap // as of now; the map's file follows them before anything is acknowledged
	// filled tells what takes space. It is never less than what does.
	filled bitmap

	nPresent atomic.Int64
	complete atomic.Bool // also durably so

	busy  granules
	space space
	sync  syncer

	fetched, wrote atomic.Int64
	hydrating      sync.Mutex

	closing sync.RWMutex // read-held by every request
	closed  bool
}

var _ nbd.Backend = (*Volume)(nil)

// Status of a volume.
type Status struct {
	SizeBytes int64
	// PresentBytes are held by the file; the rest is the base's.
	PresentBytes int64
	// FilledBytes is the space that the file's granules take, at most.
	FilledBytes, QuotaBytes int64
	// FetchedBytes were read from the base, WrittenBytes were written by the guest, since the volume was opened.
	FetchedBytes, WrittenBytes int64
	// Waiting says why writes wait: "quota" or "no space"; "" if they do not. Waited is how long there were writes that waited, in all.
	Waiting string
	Waited  time.Duration
	// Complete: the file is the whole disk, also after a power cut.
	Complete bool
}

// Status of the volume now.
func (v *Volume) Status() Status {
	s := Status{SizeBytes: v.size, PresentBytes: min(v.size, v.nPresent.Load()*Granule), FetchedBytes: v.fetched.Load(), WrittenBytes: v.wrote.Load(),
		Complete: v.complete.Load()}
	v.space.report(&s)
	return s
}

// Complete tells whether the file is the whole disk, so that it can be used without the volume once that is closed.
func (v *Volume) Complete() bool { return v.complete.Load() }

// Size of the disk.
func (v *Volume) Size() int64 { return v.size }

// Written yields the ranges that the guest has written since the volume was made, in order, in whole granules.
func (v *Volume) Written(yield func(Range) bool) {
	for g := int64(0); g < v.written.n; {
		end := v.written.run(g, v.written.n)
		if v.written.get(g) && !yield(Range{g * Granule, min(end*Granule, v.size) - g*Granule}) {
			return
		}
		g = end
	}
}

// SetQuota changes the bound. Writes that wait try again.
func (v *Volume) SetQuota(bytes int64) { v.space.setQuota(bytes) }

// begin a request. The caller calls end unless there is an error.
func (v *Volume) begin(off, n int64) error {
	v.closing.RLock()
	switch {
	case v.closed:
		v.closing.RUnlock()
		return ErrClosed
	case off < 0 || n < 0 || off > v.size-n || off%sector != 0 || n%sector != 0:
		v.closing.RUnlock()
		return fmt.Errorf("volume: range of %d bytes at %d: want multiples of %d inside %d", n, off, sector, v.size)
	}
	return nil
}

func (v *Volume) end() { v.closing.RUnlock() }

// Close waits for requests under way, those that wait for space fail, and flushes. It may be called again.
func (v *Volume) Close() error {
	v.space.close()
	v.closing.Lock()
	defer v.closing.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	return errors.Join(v.flush(), v.data.Close(), v.meta.f.Close())
}
