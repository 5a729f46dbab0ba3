package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// What the three kinds of files share; docs/formats/capture.md specifies them.
const (
	formatVersion = 1
	pageSize      = 4096 // bytes; the unit that is assumed to be written whole by nobody, and mapped by the kernel
	maxDisks      = 64
	maxName       = 64 // bytes of a stream's, machine's or disk's name
)

// ErrCorrupt says that a file is not what was written: its checksum or its lengths are wrong.
var ErrCorrupt = errors.New("corrupt")

// ErrVersion says that another version of the program wrote a file.
var ErrVersion = errors.New("unknown version")

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// seal writes magic and version to the front of a block, and at its last four bytes the checksum of all before.
func seal(block []byte, magic string) {
	copy(block, magic)
	le.PutUint32(block[4:], formatVersion)
	end := len(block) - 4
	le.PutUint32(block[end:], sum(block[:end]))
}

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// unseal checks what seal wrote.
func unseal(block []byte, magic string) error {
	end := len(block) - 4
	if end < 8 || string(block[:4]) != magic {
		return fmt.Errorf("%w: it does not begin with %q", ErrCorrupt, magic)
	}
	if got, want := sum(block[:end]), le.Uint32(block[end:]); got != want {
		return fmt.Errorf("%w: checksum %08x, its bytes give %08x", ErrCorrupt, want, got)
	}
	if v := le.Uint32(block[4:]); v != formatVersion {
		return fmt.Errorf("%w %d; this program knows %d", ErrVersion, v, formatVersion)
	}
	return nil
}

// cursor reads fields one after the other; after the first that does not fit all are zero.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.failed, c.b = true, nil
		return make([]byte, min(n, 8))
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u16() uint16 { return le.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return le.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return le.Uint64(c.take(8)) }

func (c *cursor) text() string {
	n := int(c.u16())
	if n > maxName {
		c.failed = true
		return ""
	}
	s := c.take(n)
	if c.failed {
		return ""
	}
	return string(s)
}

func putText(b []byte, s string) []byte {
	return append(le.AppendUint16(b, uint16(len(s))), s...)
}
