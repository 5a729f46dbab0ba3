// Package workload is what runs inside the tiny guests that hypervisor/guest builds: the first and only program. It mounts the disks,
// brings up the network, writes numbered records that it can recognise later, tells of them on the serial port and by HTTP, and
// answers as a guest agent.
//
// Two lines on the serial port tell how a boot went:
//
//	UNDERSTUDY-GUEST VERIFY ok seq=N            or  VERIFY bad seq=N: what is wrong
//	UNDERSTUDY-GUEST READY seq=N
package workload

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"fmt"
)

// RecordSize of a record on disk, in bytes.
const RecordSize = 4096

// slots of a volume's records: record n stands in slot n modulo slots, so that the file does not grow for ever.
const slots = 4096

var recordMagic = []byte("USGREC1\n")

// record n, written at time unixNano: the magic, n, the time, bytes made from n, and the MD5 of all that.
func encodeRecord(n uint64, unixNano int64) []byte {
	b := make([]byte, RecordSize)
	copy(b, recordMagic)
	binary.LittleEndian.PutUint64(b[8:], n)
	binary.LittleEndian.PutUint64(b[16:], uint64(unixNano))
	x := n*2685821657736338717 + 1
	for i := 24; i < RecordSize-md5.Size; i += 8 { // hardly compressible
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[i:], x)
	}
	sum := md5.Sum(b[:RecordSize-md5.Size])
	copy(b[RecordSize-md5.Size:], sum[:])
	return b
}

// decodeRecord of RecordSize bytes. ok is false for one that was written in part, or never.
func decodeRecord(b []byte) (n uint64, unixNano int64, ok bool) {
	sum := md5.Sum(b[:RecordSize-md5.Size])
	if !bytes.HasPrefix(b, recordMagic) || !bytes.Equal(sum[:], b[RecordSize-md5.Size:]) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[8:]), int64(binary.LittleEndian.Uint64(b[16:])), true
}

// slotState is what a slot was found to hold: the record, or 0 for none, and whether there is something that is no record.
type slotState struct {
	n    uint64
	torn bool
}

// judge the slots of a volume, in order: the last record, and what is wrong; "" if nothing is. A crash may leave one torn slot: the
// one that was being written, after the last record.
func judge(found []slotState) (last uint64, wrong string) {
	for _, s := range found {
		last = max(last, s.n)
	}
	size := uint64(len(found))
	for i, s := range found {
		slot := uint64(i)
		// The newest number that this slot should hold.
		want := last - (last+size-slot)%size
		if last < slot || last == 0 {
			want = 0
		}
		switch {
		case s.torn && slot == (last+1)%size:
		case s.torn:
			return last, fmt.Sprintf("slot %d holds no whole record and is not the one after the last", slot)
		case s.n != want:
			return last, fmt.Sprintf("slot %d holds record %d, want %d", slot, s.n, want)
		}
	}
	return last, ""
}
