package volume

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

func encodeMissing(ranges []Range) []byte {
	b := make([]byte, 0, len(ranges)*16+4)
	for _, r := range ranges {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Off))
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Len))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMissing(b []byte, size int64) ([]Range, error) {
	list := b[:len(b)-4]
	if binary.LittleEndian.Uint32(b[len(list):]) != crc32.Checksum(list, castagnoli) {
		return nil, &MapError{"the checksum of the missing ranges is wrong"}
	}
	out := make([]Range, len(list)/16)
	end := int64(0)
	for i := range out {
		r := Range{int64(binary.LittleEndian.Uint64(list[i*16:])), int64(binary.LittleEndian.Uint64(list[i*16+8:]))}
		if r.Off < end || r.Len <= 0 || r.Off > size-r.Len {
			return nil, &MapError{fmt.Sprintf("missing range %d: %d bytes at %d: want them sorted, apart and inside %d", i, r.Len, r.Off, size)}
		}
		end = r.Off + r.Len
		out[i] = r
	}
	return out, nil
}

// normalise sorts and merges ranges.
func normalise(in []Range, size int64) ([]Range, error) {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b Range) int { return cmp.Compare(a.Off, b.Off) })
	var out []Range
	for _, r := range in {
		if r.Off < 0 || r.Len < 0 || r.Off > size-r.Len || r.Off%sector != 0 || r.Len%sector != 0 {
			return nil, fmt.Errorf("missing range of %d bytes at %d: want multiples of %d inside %d", r.Len, r.Off, sector, size)
		}
		if k := len(out) - 1; k >= 0 && r.Off <= out[k].Off+out[k].Len {
			out[k].Len = max(out[k].Len, r.Off+r.Len-out[k].Off)
		} else if r.Len > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}
