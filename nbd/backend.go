package nbd

import (
	"context"
	"fmt"
)

// Backend is a disk. All methods are safe for concurrent use; offsets and lengths are bytes, multiples of 512, inside Size.
// Errors reach the client as the error that Code gives for them.
type Backend interface {
	// Size of the disk; it does not change.
	Size() int64
	// ReadAt fills p.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p, and keeps nothing of it after it returns. With fua the data is durable on return.
	WriteAt(ctx context.Context, p []byte, off int64, fua bool) error
	// Zero makes a range read as zeroes. With mayTrim the space may be given back.
	Zero(ctx context.Context, off, n int64, mayTrim, fua bool) error
	// Trim gives a range's space back. Its content is undefined or zero; backends of this project read zeroes.
	Trim(ctx context.Context, off, n int64, fua bool) error
	// Flush makes durable whatever was written and answered before it began, over whichever connection.
	Flush(ctx context.Context) error
	// Extents tells what lies in a range, in order and without gaps from off. It may stop early, also because yield returned
	// false, but yields at least one extent.
	Extents(ctx context.Context, off, n int64, yield func(off, n int64, e Extent) bool) error
}

// Extent is the state of a range, the flags of the metadata context base:allocation. 0 is allocated data.
type Extent uint32

const (
	Hole  Extent = 1 << 0 // nothing is allocated
	Zeros Extent = 1 << 1 // reads as zeroes
)

func (e Extent) String() string {
	switch e {
	case 0:
		return "data"
	case Hole:
		return "hole"
	case Zeros:
		return "zero"
	case Hole | Zeros:
		return "hole,zero"
	}
	return fmt.Sprintf("extent(%d)", uint32(e))
}

// Export is a disk under a name.
type Export struct {
	// Name by which clients ask for it, up to 4096 bytes; "" is the default export.
	Name string
	// Description for people, shown in lists.
	Description string
	Backend     Backend
	// ReadOnly refuses every change with EPERM.
	ReadOnly bool
	// Blocking says that requests wait for something slow (a network, a cold disk): each connection then has up to 16 of them
	// under way at a time, in goroutines of their own. Otherwise requests of one connection run one after the other, which is
	// faster whenever the page cache answers.
	Blocking bool
}

func (e Export) validate() error {
	if e.Backend == nil {
		return fmt.Errorf("export %q: has no backend", e.Name)
	}
	if size := e.Backend.Size(); size < 0 || size%sectorSize != 0 {
		return fmt.Errorf("export %q: size of %d bytes: want a multiple of %d", e.Name, size, sectorSize)
	}
	for what, s := range map[string]string{"name": e.Name, "description": e.Description} {
		if len(s) > maxName {
			return fmt.Errorf("export %.40q…: %s of %d bytes: want at most %d", e.Name, what, len(s), maxName)
		}
	}
	return nil
}

// flags are the transmission flags of the export for a client that has or has not asked for structured replies.
func (e *Export) flags(structured bool) uint16 {
	f := uint16(flagHasFlags | flagSendFlush | flagSendFUA | flagSendTrim | flagSendWriteZeroes | flagCanMultiConn)
	if e.ReadOnly {
		f |= flagReadOnly
	}
	if structured {
		f |= flagSendDF
	}
	return f
}
