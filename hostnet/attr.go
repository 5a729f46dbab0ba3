package hostnet

import (
	"encoding/binary"
	"errors"
	"iter"

	"golang.org/x/sys/unix"
)

var errAttr = errors.New("malformed netlink attribute")

// attrs gives the type and value of each netlink attribute in b, and at the end an error if b is malformed.
// (The netlink library's own reader fails on a last attribute without padding.)
func attrs(b []byte, failed *error) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				*failed = errAttr
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min(len(b), (n+3)&^3):]
		}
	}
}
