package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// Sizes and limits of a batch, in bytes.
const (
	BatchVersion = 1
	batchHead    = 32
	recordHead   = 48
	batchTail    = 4
	MaxBatch     = 64 << 20 // longest body of a batch
)

var (
	batchMagic = []byte("USJB")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// BatchSize is how many bytes AppendBatch adds for these records.
func BatchSize(recs []Record) int {
	n := batchHead + batchTail
	for i := range recs {
		n += recordHead + payloadSize(&recs[i])
	}
	return n
}

// RecordSize is how many bytes of a batch or segment a record takes.
func RecordSize(r *Record) int { return recordHead + payloadSize(r) }

func payloadSize(r *Record) int {
	switch {
	case r.Kind == Write:
		return len(r.Data)
	case r.Point != nil:
		return 16 + len(r.Point.ID) + len(r.Point.Tag) + len(r.Point.Notes)
	}
	return 0
}

// AppendBatch adds the records to dst as one batch. It refuses an empty list, records that do not validate, records that do
// not follow each other, and more than MaxBatch bytes of them. The same records always give the same bytes.
func AppendBatch(dst []byte, recs []Record) ([]byte, error) {
	if err := CheckSequence(recs); err != nil {
		return dst, err
	}
	size := BatchSize(recs)
	if size > MaxBatch {
		return dst, fmt.Errorf("batch of %d records has %d bytes; at most %d", len(recs), size, MaxBatch)
	}
	start := len(dst)
	dst = append(dst, make([]byte, batchHead)...)
	h := dst[start:]
	copy(h, batchMagic)
	le.PutUint16(h[4:], BatchVersion)
	le.PutUint32(h[8:], uint32(len(recs)))
	le.PutUint32(h[12:], uint32(size-batchHead-batchTail))
	le.PutUint64(h[16:], recs[0].Seq)
	le.PutUint64(h[24:], recs[len(recs)-1].Seq)
	for i := range recs {
		dst = appendRecord(dst, &recs[i])
	}
	return le.AppendUint32(dst, checksum(dst[start:])), nil
}

// CheckSequence refuses an empty list, a record that does not validate, and one that does not follow the one before.
func CheckSequence(recs []Record) error {
	if len(recs) == 0 {
		return fmt.Errorf("no records; at least one is needed")
	}
	for i := range recs {
		if err := recs[i].Validate(); err != nil {
			return err
		}
		if i > 0 && !Follows(recs[i-1].Seq, &recs[i]) {
			return fmt.Errorf("record %d (%s) stands after record %d; %d or a gap-begin from there is next",
				recs[i].Seq, recs[i].Kind, recs[i-1].Seq, recs[i-1].Seq+1)
		}
	}
	return nil
}

func appendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, byte(r.Kind), r.Flags)
	dst = le.AppendUint16(dst, r.Disk)
	dst = le.AppendUint32(dst, uint32(payloadSize(r)))
	dst = le.AppendUint64(dst, r.Seq)
	dst = le.AppendUint64(dst, uint64(r.Off))
	dst = le.AppendUint64(dst, uint64(r.Len))
	dst = le.AppendUint64(dst, uint64(r.Time))
	dst = le.AppendUint64(dst, r.From)
	if r.Point == nil {
		return append(dst, r.Data...)
	}
	p := r.Point
	kind := byte(1)
	if p.Consistency == App {
		kind = 2
	}
	dst = le.AppendUint64(dst, uint64(p.At.UnixNano()))
	dst = append(dst, kind, 0)
	for _, s := range []string{p.ID, p.Tag, p.Notes} {
		dst = le.AppendUint16(dst, uint16(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

// DecodeBatch reads exactly one batch. The records' Data are parts of b, which must stay as it is while they are used.
// Its errors are of class ErrCorrupt, ErrTruncated or ErrVersion.
func DecodeBatch(b []byte) ([]Record, error) {
	batch, rest, err := SplitBatch(b)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, wrong("", ErrCorrupt, "%d bytes follow the batch", len(rest))
	}
	count := int(le.Uint32(batch[8:]))
	recs, err := decodeRecords(batch[batchHead:len(batch)-batchTail], count)
	if err != nil {
		return nil, err
	}
	if err := CheckSequence(recs); err != nil {
		return nil, wrong("", ErrCorrupt, "%v", err)
	}
	if first, last := le.Uint64(batch[16:]), le.Uint64(batch[24:]); first != recs[0].Seq || last != recs[count-1].Seq {
		return nil, wrong("", ErrCorrupt, "the head says records %d to %d, it holds %d to %d", first, last, recs[0].Seq, recs[count-1].Seq)
	}
	return recs, nil
}

// SplitBatch cuts the first batch off b after checking its checksum. An incomplete batch, as a torn append leaves at the
// end of a spool file, is ErrTruncated.
func SplitBatch(b []byte) (batch, rest []byte, err error) {
	if n := min(len(b), len(batchMagic)); !bytes.Equal(b[:n], batchMagic[:n]) {
		return nil, nil, wrong("", ErrCorrupt, "it begins with %q; a batch begins with %q", b[:n], batchMagic)
	}
	if len(b) < batchHead {
		return nil, nil, wrong("", ErrTruncated, "%d bytes of a head of %d", len(b), batchHead)
	}
	if v := le.Uint16(b[4:]); v != BatchVersion {
		return nil, nil, wrong("", ErrVersion, "batch version %d; this program reads %d", v, BatchVersion)
	}
	body, count := int64(le.Uint32(b[12:])), int64(le.Uint32(b[8:]))
	if le.Uint16(b[6:]) != 0 || body > MaxBatch || count == 0 || count > body/recordHead {
		return nil, nil, wrong("", ErrCorrupt, "%d records in %d bytes", count, body)
	}
	size := batchHead + body + batchTail
	if int64(len(b)) < size {
		return nil, nil, wrong("", ErrTruncated, "%d bytes of a batch of %d", len(b), size)
	}
	batch = b[:size:size]
	if got, want := checksum(batch[:size-batchTail]), le.Uint32(batch[size-batchTail:]); got != want {
		return nil, nil, wrong("", ErrCorrupt, "the checksum is %08x, it says %08x", got, want)
	}
	return batch, b[size:], nil
}

// BatchSpan tells which positions a batch that SplitBatch gave covers, first and last included.
func BatchSpan(batch []byte) (first, last uint64) {
	return le.Uint64(batch[16:]), le.Uint64(batch[24:])
}

func decodeRecords(b []byte, count int) ([]Record, error) {
	recs := make([]Record, 0, count)
	for range count {
		r, n, err := decodeRecord(b)
		if err != nil {
			return nil, err
		}
		recs, b = append(recs, r), b[n:]
	}
	if len(b) != 0 {
		return nil, wrong("", ErrCorrupt, "%d bytes follow the last record", len(b))
	}
	return recs, nil
}

// decodeRecord reads one record; whether it validates is the caller's to ask.
func decodeRecord(b []byte) (Record, int, error) {
	if len(b) < recordHead {
		return Record{}, 0, wrong("", ErrTruncated, "%d bytes of a record's head of %d", len(b), recordHead)
	}
	n := int64(le.Uint32(b[4:]))
	if int64(len(b))-recordHead < n {
		return Record{}, 0, wrong("", ErrTruncated, "%d bytes of a record of %d", len(b), recordHead+n)
	}
	r := Record{Kind: Kind(b[0]), Flags: b[1], Disk: le.Uint16(b[2:]), Seq: le.Uint64(b[8:]), Off: int64(le.Uint64(b[16:])),
		Len: int64(le.Uint64(b[24:])), Time: int64(le.Uint64(b[32:])), From: le.Uint64(b[40:])}
	payload := b[recordHead : recordHead+n : recordHead+n]
	switch {
	case r.Kind == Point:
		p, err := decodePoint(payload)
		if err != nil {
			return Record{}, 0, err
		}
		r.Point = p
	case n > 0:
		r.Data = payload
	}
	return r, int(recordHead + n), nil
}

func decodePoint(b []byte) (*PointInfo, error) {
	if len(b) < 10 || b[8] != 1 && b[8] != 2 || b[9] != 0 {
		return nil, wrong("", ErrCorrupt, "a point's payload of %d bytes", len(b))
	}
	p := &PointInfo{At: time.Unix(0, int64(le.Uint64(b))).UTC(), Consistency: Crash}
	if b[8] == 2 {
		p.Consistency = App
	}
	b = b[10:]
	for _, s := range []*string{&p.ID, &p.Tag, &p.Notes} {
		if len(b) < 2 || len(b)-2 < int(le.Uint16(b)) {
			return nil, wrong("", ErrCorrupt, "a text of a point is cut short")
		}
		n := int(le.Uint16(b))
		*s, b = string(b[2:2+n]), b[2+n:]
	}
	if len(b) != 0 {
		return nil, wrong("", ErrCorrupt, "%d bytes follow a point's texts", len(b))
	}
	return p, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
