// Package journal is the stream of a protected machine's writes as bytes: records, batches of records as they travel and
// lie in spools, and segments, the immutable encrypted objects that a vault keeps. The formats are specified in
// docs/formats/segment.md.
//
// Everything here is bytes in, bytes out: no clock, no network, no files. Decoders are handed bytes from anywhere; they
// never panic and never allocate more than a small multiple of what they were handed.
package journal

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says what a record does to the stream.
type Kind uint8

// The kinds of records.
const (
	Write    Kind = 1 // Data replaces the bytes [Off, Off+Len) of Disk
	Zero     Kind = 2 // the range reads as zeroes from here on (zeroed or trimmed)
	Flush    Kind = 3 // the guest flushed Disk; no bytes change
	Point    Kind = 4 // a recovery point: everything with a smaller Seq, and nothing else, belongs to it
	GapBegin Kind = 5 // records from From on may be missing; no point is valid until the gap ends
	GapEnd   Kind = 6 // what was missing has been read again: the stream is whole from here on
)

// String names the kind as Inspect prints it.
func (k Kind) String() string {
	names := [...]string{"", "write", "zero", "flush", "point", "gap-begin", "gap-end"}
	if k < Write || k > GapEnd {
		return fmt.Sprintf("kind-%d", uint8(k))
	}
	return names[k]
}

// Flags of a record. Readers keep flags they do not know.
const (
	FUA    uint8 = 1 << 0 // the guest asked for this write to be durable before the answer
	Resync uint8 = 1 << 1 // a block read again while a gap closes, not a write of the guest
)

// Limits of a record.
const (
	Sector   = 512      // offsets and lengths are multiples of it, in bytes
	MaxWrite = 32 << 20 // longest Write, in bytes (the NBD protocol's own limit)
	MaxZero  = 4 << 30  // longest Zero, in bytes
	MaxText  = 4 << 10  // longest string of a point, in bytes
)

// Record is one step of a stream. Its Data belongs to whoever holds the record; packages say when they keep it.
type Record struct {
	Seq   uint64 // position, from 1, each one more than the last; only a GapBegin may leave positions out
	Kind  Kind
	Disk  uint16 // index of the disk in the stream's list, from 0
	Flags uint8
	Off   int64      // bytes, a multiple of Sector
	Len   int64      // bytes, a multiple of Sector; Write: len(Data)
	Data  []byte     // Write only
	Time  int64      // unix nanoseconds on the source's clock when the record was numbered
	Point *PointInfo // Point only
	From  uint64     // GapBegin only: the first position that may be missing, at most Seq
}

// Consistency says what a point promises of the data in it.
type Consistency string

// The consistencies of points.
const (
	Crash Consistency = "crash" // as after a power cut
	App   Consistency = "app"   // applications and file systems were frozen
)

// PointInfo is what a Point record carries.
type PointInfo struct {
	ID          string      `json:"id"` // unique in the stream
	At          time.Time   `json:"at"` // the point's time on the source's clock, UTC
	Consistency Consistency `json:"consistency"`
	Tag         string      `json:"tag,omitempty"`   // the operator's, or the multi-machine group's
	Notes       string      `json:"notes,omitempty"` // what hooks said
}

// End is the first byte after the record's range.
func (r *Record) End() int64 { return r.Off + r.Len }

// Validate refuses a record that the formats cannot carry; the error names the field, its value and what would be right.
func (r *Record) Validate() error {
	if r.Seq == 0 {
		return fmt.Errorf("record: seq is 0; positions count from 1")
	}
	if r.Kind < Write || r.Kind > GapEnd {
		return fmt.Errorf("record %d: kind is %d; known are 1 to 6", r.Seq, r.Kind)
	}
	if (r.Kind == Point) != (r.Point != nil) {
		return fmt.Errorf("record %d: a %s record with point set: %t", r.Seq, r.Kind, r.Point != nil)
	}
	if r.Kind == GapBegin && r.From > r.Seq || r.Kind != GapBegin && r.From != 0 {
		return fmt.Errorf("record %d: from is %d in a %s record; only gap-begin has one, at most its seq", r.Seq, r.From, r.Kind)
	}
	if err := r.validateRange(); err != nil {
		return err
	}
	if r.Point != nil {
		return r.Point.validate(r.Seq)
	}
	return nil
}

func (r *Record) validateRange() error {
	longest := int64(0)
	switch r.Kind {
	case Write:
		longest = MaxWrite
	case Zero:
		longest = MaxZero
	default:
		if r.Off != 0 || r.Len != 0 || len(r.Data) != 0 {
			return fmt.Errorf("record %d: a %s record has a range [%d, +%d); it has none", r.Seq, r.Kind, r.Off, r.Len)
		}
		return nil
	}
	if r.Off < 0 || r.Off%Sector != 0 || r.Off > 1<<62 {
		return fmt.Errorf("record %d: offset is %d; it is a multiple of %d from 0 to 2^62", r.Seq, r.Off, Sector)
	}
	if r.Len <= 0 || r.Len%Sector != 0 || r.Len > longest {
		return fmt.Errorf("record %d: length is %d; of a %s it is a multiple of %d up to %d", r.Seq, r.Len, r.Kind, Sector, longest)
	}
	if r.Kind == Write && int64(len(r.Data)) != r.Len || r.Kind == Zero && len(r.Data) != 0 {
		return fmt.Errorf("record %d: a %s of %d bytes carries %d bytes of data", r.Seq, r.Kind, r.Len, len(r.Data))
	}
	return nil
}

func (p *PointInfo) validate(seq uint64) error {
	if p.Consistency != Crash && p.Consistency != App {
		return fmt.Errorf("record %d: the point's consistency is %q; it is %q or %q", seq, p.Consistency, Crash, App)
	}
	for _, s := range []string{p.ID, p.Tag, p.Notes} {
		if len(s) > MaxText || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return fmt.Errorf("record %d: a text of the point has %d bytes; it is UTF-8 without NUL of at most %d bytes", seq, len(s), MaxText)
		}
	}
	if p.ID == "" {
		return fmt.Errorf("record %d: the point has no id", seq)
	}
	if ns := p.At.UnixNano(); !time.Unix(0, ns).Equal(p.At) {
		return fmt.Errorf("record %d: the point's time is %s; it lies between the years 1678 and 2262", seq, p.At)
	}
	return nil
}

// Follows tells whether next may stand after position last: the next number, or a GapBegin that admits what is missing.
func Follows(last uint64, next *Record) bool {
	if next.Seq == last+1 {
		return true
	}
	return next.Kind == GapBegin && next.Seq > last && next.From <= last+1
}
