package disk

import "fmt"

const (
	activityMagic = "USCA"
	activityFile  = "activity"
)

// extent is a part of a disk that the activity log knows: the disk in the upper 16 bits, its index in the lower 48.
type extent uint64

func extentOf(disk uint16, off, size int64) extent {
	return extent(uint64(disk)<<48 | uint64(off/size))
}

func (e extent) disk() uint16      { return uint16(e >> 48) }
func (e extent) off(n int64) int64 { return int64(e&(1<<48-1)) * n }

// activityImage is the sealed list of the extents that may be written.
type activityImage struct {
	Serial uint64 // grows by each writing
	Size   int64  // bytes of an extent
	Slots  int    // extents that fit
	Hot    []extent
}

// activitySize is the length of an image with so many slots, whole pages.
func activitySize(slots int) int64 {
	return (32 + int64(slots)*8 + 4 + pageSize - 1) / pageSize * pageSize
}

func (a *activityImage) encode() []byte {
	b := make([]byte, 8, activitySize(a.Slots))
	b = le.AppendUint64(b, a.Serial)
	b = le.AppendUint32(b, uint32(a.Size))
	b = le.AppendUint32(b, uint32(a.Slots))
	b = le.AppendUint64(b, uint64(len(a.Hot)))
	for _, e := range a.Hot {
		b = le.AppendUint64(b, uint64(e))
	}
	b = b[:cap(b)]
	seal(b, activityMagic)
	return b
}

func decodeActivity(b []byte) (a activityImage, err error) {
	if err := unseal(b, activityMagic); err != nil {
		return a, err
	}
	c := cursor{b: b[8 : len(b)-4]}
	a.Serial, a.Size, a.Slots = c.u64(), int64(c.u32()), int(c.u32())
	n := c.u64()
	if n > uint64(len(c.b)/8) || n > uint64(a.Slots) || a.Slots > 1<<20 || a.Size < pageSize || a.Size&(a.Size-1) != 0 {
		return a, fmt.Errorf("%w: %d extents of %d bytes in %d slots", ErrCorrupt, n, a.Size, a.Slots)
	}
	for range n {
		a.Hot = append(a.Hot, extent(c.u64()))
	}
	return a, nil
}

// openActivity reads the newer image of the two that are written in turn. An image that is half written never took effect.
func openActivity(d directory) (file, activityImage, error) {
	f, err := d.open(activityFile)
	if err != nil {
		return nil, activityImage{}, err
	}
	var best *activityImage
	half := f.size() / 2
	for i := range int64(2) {
		b := make([]byte, half)
		if _, err := f.ReadAt(b, i*half); err != nil {
			return nil, activityImage{}, fmt.Errorf("activity: %w", err)
		}
		if a, err := decodeActivity(b); err == nil && (best == nil || a.Serial > best.Serial) {
			best = &a
		}
	}
	if best == nil {
		return nil, activityImage{}, fmt.Errorf("activity: %w: neither image is whole", ErrCorrupt)
	}
	return f, *best, nil
}
