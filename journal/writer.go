package journal

import (
	"fmt"

	"filippo.io/age"
)

// BlockTarget is how many bytes of records a block takes before the next one begins. A longer record has a block of its own.
const BlockTarget = 128 << 10

// Layout of a segment behind its binding, in bytes.
const (
	blockEntry  = 16
	extentEntry = 40
	footerSize  = 40
)

var footerMagic = []byte("USJF")

// Sealed is a finished object and what refers to it needs to know.
type Sealed struct {
	Object  []byte
	Hash    Hash // of Object
	Records int
	Raw     int64 // bytes of records before compression
}

// SealSegment makes a segment of consecutive records. b says where it belongs; Type, First and Last are filled in here.
// A segment that begins with a gap-begin has that record's position as First, also where positions are missing before it.
func SealSegment(b Binding, recs []Record, to age.Recipient) (Sealed, error) {
	if err := CheckSequence(recs); err != nil {
		return Sealed{}, err
	}
	b.Type, b.First, b.Last = SegmentObject, recs[0].Seq, recs[len(recs)-1].Seq
	var w blockWriter
	for i := range recs {
		if err := w.add(&recs[i]); err != nil {
			return Sealed{}, err
		}
	}
	return w.seal(b, NewestWins(w.extents), to)
}

// PartWriter makes a layer's part: records of kind Write and Zero, sorted by disk and offset, without overlaps. Their positions
// are those of the last write in each. The zero PartWriter is ready.
type PartWriter struct {
	w blockWriter
}

// Add appends the next record; it copies the data.
func (p *PartWriter) Add(r *Record) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.Kind != Write && r.Kind != Zero {
		return fmt.Errorf("a layer holds no %s record (%d)", r.Kind, r.Seq)
	}
	if n := len(p.w.extents); n > 0 {
		if e := p.w.extents[n-1]; e.Disk > r.Disk || e.Disk == r.Disk && e.End() > r.Off {
			return fmt.Errorf("a layer's record at %d of disk %d stands after one that ends at %d of disk %d", r.Off, r.Disk, e.End(), e.Disk)
		}
	}
	return p.w.add(r)
}

// Size is how many bytes the part takes so far, give or take the block that is open; Extents how many extents it has.
func (p *PartWriter) Size() int64 { return int64(len(p.w.packed) + len(p.w.open)) }

// Extents is how many records were added.
func (p *PartWriter) Extents() int { return len(p.w.extents) }

// Last is the end of what was added.
func (p *PartWriter) Last() (disk uint16, end int64) {
	e := p.w.extents[len(p.w.extents)-1]
	return e.Disk, e.End()
}

// Seal finishes the part, which has at least one record, and makes the writer ready for the next one.
func (p *PartWriter) Seal(b Binding, to age.Recipient) (Sealed, error) {
	if p.Extents() == 0 {
		return Sealed{}, fmt.Errorf("a layer's part without records")
	}
	b.Type = LayerObject
	s, err := p.w.seal(b, p.w.extents, to)
	p.w = blockWriter{}
	return s, err
}

// blockWriter packs records into blocks and notes where they lie.
type blockWriter struct {
	open    []byte // records of the block that is not packed yet
	packed  []byte // finished blocks
	blocks  []block
	extents []Extent
	records int
	raw     int64
}

type block struct {
	off, size, raw int64 // in the plain text, behind the binding; packed; unpacked
	codec          byte
}

func (w *blockWriter) add(r *Record) error {
	if n := RecordSize(r); len(w.open) > 0 && len(w.open)+n > BlockTarget {
		w.flush()
	}
	if r.Kind == Write || r.Kind == Zero {
		w.extents = append(w.extents, Extent{Disk: r.Disk, Off: r.Off, Len: r.Len, Seq: r.Seq, Zero: r.Kind == Zero})
		if r.Kind == Write {
			e := &w.extents[len(w.extents)-1]
			e.Block, e.Pos = uint32(len(w.blocks)), uint32(len(w.open)+recordHead)
		}
	}
	w.open = appendRecord(w.open, r)
	w.records++
	w.raw += int64(RecordSize(r))
	if int64(len(w.packed)) > 1<<31 {
		return fmt.Errorf("an object of more than %d bytes", len(w.packed))
	}
	return nil
}

func (w *blockWriter) flush() {
	if len(w.open) == 0 {
		return
	}
	b := block{off: int64(len(w.packed)), raw: int64(len(w.open))}
	w.packed, b.codec = pack(w.packed, w.open)
	b.size = int64(len(w.packed)) - b.off
	w.blocks, w.open = append(w.blocks, b), w.open[:0]
}

func (w *blockWriter) seal(b Binding, index []Extent, to age.Recipient) (Sealed, error) {
	w.flush()
	tables := make([]byte, 0, len(w.blocks)*blockEntry+len(index)*extentEntry)
	for _, k := range w.blocks {
		tables = le.AppendUint32(tables, uint32(k.off))
		tables = le.AppendUint32(tables, uint32(k.size))
		tables = le.AppendUint32(tables, uint32(k.raw))
		tables = append(tables, k.codec, 0, 0, 0)
	}
	for _, e := range index {
		tables = appendExtent(tables, e)
	}
	at := len(w.packed)
	payload, codec := pack(w.packed, tables)
	footer := append(make([]byte, 0, footerSize), footerMagic...)
	footer = append(footer, codec, 0, 0, 0)
	for _, v := range []int{len(w.blocks), len(index), w.records, at, len(payload) - at, len(tables), 0, 0} {
		footer = le.AppendUint32(footer, uint32(v))
	}
	object, err := Seal(b, append(payload, footer...), to)
	return Sealed{Object: object, Hash: Sum(object), Records: w.records, Raw: w.raw}, err
}

func appendExtent(dst []byte, e Extent) []byte {
	dst = le.AppendUint16(dst, e.Disk)
	zero := byte(0)
	if e.Zero {
		zero = 1
	}
	dst = append(dst, zero, 0, 0, 0, 0, 0)
	dst = le.AppendUint64(dst, uint64(e.Off))
	dst = le.AppendUint64(dst, uint64(e.Len))
	dst = le.AppendUint64(dst, e.Seq)
	dst = le.AppendUint32(dst, e.Block)
	return le.AppendUint32(dst, e.Pos)
}
