package disk

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/nbd"
)

// Config of a machine's capture.
type Config struct {
	// Dir keeps the bitmaps, the activity log and the state (docs/formats/capture.md); it is made if it is not there. One
	// process at a time uses it. It belongs to this machine and these disks for ever.
	Dir string
	// MachineUID is the machine's id, up to 64 bytes. A directory of another machine is refused.
	MachineUID string
	// Stream is the id of the stream, up to 64 bytes. A directory that has another one is refused (ErrOtherStream): the owner
	// opens it with the stream it has, and calls StartStream. "" means the one it has.
	Stream string
	// Epoch of the assignment under which the stream is written. A directory with a newer one is refused (ErrStale).
	Epoch uint64
	// Disks of the machine, 1 to 64, in the order that gives their indices. Ids and sizes never change.
	Disks []DiskConfig
	// Granule is what a dirty bit stands for, bytes; a power of two from 4 KiB to 4 MiB. Default 64 KiB. It is fixed when the directory
	// is made.
	Granule int64
	// ActivityExtents is how many parts of 4 MiB may be written without a sync between them, at least 32. Default 1024. After a power
	// loss as many are compared or sent again. It is fixed when the directory is made.
	ActivityExtents int
	// QueueBytes and QueueRecords bound what is kept in memory until the far side has it; beyond, the stream gets a gap. Defaults
	// 256 MiB and 262,144; at least 1 MiB, four granules, and 64 records. A write longer than the queue always costs a gap.
	QueueBytes   int64
	QueueRecords int
	// RotateEvery is the least time between two bitmaps while all is well. A bitmap is dropped when all of it is stored. Default 5 s.
	RotateEvery time.Duration
	// Access to begin with. Default: Unconfirmed.
	Access Access
	// Paused: nothing is sent, only dirty bits are kept, until SetShipping.
	Paused bool
	// Initial says what differs from what the stream is based on when the directory is made: nil means everything, an empty
	// list nothing. It is not looked at later.
	Initial []capture.Range
	// ZeroBase: blocks that the stream never mentions read as zeroes at the far side, so that those that do need not be copied.
	ZeroBase bool
	// Log gets what people should know. Default: none.
	Log *slog.Logger

	// For tests.
	directory directory
	boot      string
	now       func() time.Time
	extent    int64 // bytes of an extent of the activity log
	patience  time.Duration
}

// DiskConfig is one of the machine's disks.
type DiskConfig struct {
	ID string // up to 64 bytes
	// Lower is the disk itself. Only this machine writes to it; it stays open when the machine is closed.
	Lower nbd.Backend
}

// Errors of Open. They are wrapped with what was found.
var (
	ErrOtherStream = errors.New("the directory has another stream")
	ErrStale       = errors.New("the directory knows a newer epoch")
	ErrOtherDisks  = errors.New("the directory belongs to other disks")
)

// maxIDs is about how long all disks' ids may be together, in bytes, so that they fit the state's page.
const maxIDs = 3000

const activityExtent = 4 << 20 // bytes

func (c *Config) complete() error {
	c.Granule = cmp.Or(c.Granule, 64<<10)
	c.ActivityExtents = cmp.Or(c.ActivityExtents, 1024)
	c.QueueBytes = cmp.Or(c.QueueBytes, 256<<20)
	c.QueueRecords = cmp.Or(c.QueueRecords, 1<<18)
	c.RotateEvery = cmp.Or(c.RotateEvery, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.extent = cmp.Or(c.extent, activityExtent)
	c.patience = cmp.Or(c.patience, patience)
	if c.now == nil {
		c.now = time.Now
	}
	if c.directory == nil {
		c.directory = osDirectory(c.Dir)
	}
	if c.boot == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return fmt.Errorf("boot id: %w", err)
		}
		c.boot = strings.TrimSpace(string(b))
	}
	return c.check()
}

func (c *Config) check() error {
	switch {
	case len(c.Disks) == 0 || len(c.Disks) > maxDisks:
		return fmt.Errorf("disks: %d of them; a machine has 1 to %d", len(c.Disks), maxDisks)
	case len(c.MachineUID) > maxName || len(c.Stream) > maxName:
		return fmt.Errorf("machineUID and stream: %d and %d bytes; at most %d each", len(c.MachineUID), len(c.Stream), maxName)
	case bits.OnesCount64(uint64(c.Granule)) != 1 || c.Granule < 4<<10 || c.Granule > 4<<20:
		return fmt.Errorf("granule: %d bytes; want a power of two from 4096 to 4194304", c.Granule)
	case c.ActivityExtents < 32 || c.ActivityExtents > 1<<20:
		return fmt.Errorf("activityExtents: %d; want 32 to 1048576", c.ActivityExtents)
	case c.QueueBytes < max(1<<20, 4*c.Granule):
		return fmt.Errorf("queueBytes: %d; want at least %d", c.QueueBytes, max(1<<20, 4*c.Granule))
	case c.QueueRecords < 64:
		return fmt.Errorf("queueRecords: %d; want at least 64", c.QueueRecords)
	}
	seen := map[string]bool{}
	for i, d := range c.Disks {
		if d.ID == "" || len(d.ID) > maxName || seen[d.ID] {
			return fmt.Errorf("disks[%d].id: %q; want 1 to %d bytes, each once", i, d.ID, maxName)
		}
		if n := d.Lower.Size(); n <= 0 || n%512 != 0 {
			return fmt.Errorf("disk %s: %d bytes long; want a positive multiple of 512", d.ID, n)
		}
		seen[d.ID] = true
	}
	if s := (identity{Machine: c.MachineUID, Stream: c.Stream, Boot: c.boot, Disks: c.diskIDs()}); !s.fits() {
		return fmt.Errorf("disks: the ids of %d disks are too long together; want at most %d bytes", len(c.Disks), maxIDs)
	}
	return nil
}

func (c *Config) diskIDs() (ids []diskID) {
	for _, d := range c.Disks {
		ids = append(ids, diskID{ID: d.ID, Size: d.Lower.Size()})
	}
	return ids
}
