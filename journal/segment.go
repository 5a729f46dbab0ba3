package journal

import (
	"bytes"
	"errors"
	"io"

	"filippo.io/age"
)

// Segment reads a segment or a layer's part. It is safe for concurrent use if the reader under it is.
type Segment struct {
	o       *sealed
	Binding Binding
	Records int // number of records
	blocks  []block
	index   []Extent
}

// Open reads an object's footer and index and checks that it is of want's place. name is for errors. src may be slow: every
// read of it is of one 64 KiB chunk; what it fails with comes back wrapped in a SourceError.
func Open(name string, src io.ReaderAt, size int64, want Binding, ids ...age.Identity) (*Segment, error) {
	s, err := openAny(name, src, size, ids...)
	if err != nil {
		return nil, err
	}
	if err := s.Binding.check(name, want); err != nil {
		return nil, err
	}
	return s, nil
}

// openAny opens an object wherever it belongs.
func openAny(name string, src io.ReaderAt, size int64, ids ...age.Identity) (*Segment, error) {
	o, err := openSealed(name, src, size, ids...)
	if err != nil {
		return nil, err
	}
	return newSegment(o)
}

func newSegment(o *sealed) (*Segment, error) {
	if t := o.binding.Type; t != SegmentObject && t != LayerObject {
		return nil, wrong(o.name, ErrReplayed, "it is an object of type %d; here belongs a segment or a layer's part", t)
	}
	s := &Segment{o: o, Binding: o.binding}
	return s, s.readTables()
}

func (s *Segment) readTables() error {
	bad := func(format string, args ...any) error { return wrong(s.o.name, ErrCorrupt, format, args...) }
	room := s.o.size - s.o.start
	if room < footerSize {
		return wrong(s.o.name, ErrTruncated, "%d bytes; the footer alone has %d", room, footerSize)
	}
	f, err := s.o.read(s.o.size-footerSize, footerSize)
	if err != nil {
		return err
	}
	if !bytes.Equal(f[:4], footerMagic) || f[5]|f[6]|f[7] != 0 || le.Uint64(f[32:]) != 0 {
		return bad("it does not end with a footer")
	}
	field := func(i int) int64 { return int64(le.Uint32(f[8+4*i:])) }
	blocks, extents, at, size, raw := field(0), field(1), field(3), field(4), field(5)
	s.Records = int(field(2))
	if at+size != room-footerSize || raw != blocks*blockEntry+extents*extentEntry || raw > 1024*(size+64) {
		return bad("its footer tells of %d blocks, %d extents, tables of %d bytes at %d in %d", blocks, extents, size, at, room)
	}
	packed, err := s.o.read(s.o.start+at, size)
	if err != nil {
		return err
	}
	tables, err := unpack(s.o.name, packed, f[4], raw)
	if err != nil {
		return err
	}
	if s.blocks, err = decodeBlocks(s.o.name, tables[:blocks*blockEntry], at); err != nil {
		return err
	}
	s.index, err = s.decodeIndex(tables[blocks*blockEntry:])
	return err
}

func decodeBlocks(name string, p []byte, room int64) ([]block, error) {
	blocks := make([]block, 0, len(p)/blockEntry)
	end := int64(0)
	for ; len(p) > 0; p = p[blockEntry:] {
		b := block{off: int64(le.Uint32(p)), size: int64(le.Uint32(p[4:])), raw: int64(le.Uint32(p[8:])), codec: p[12]}
		if b.off != end || b.raw == 0 || b.raw > MaxWrite+recordHead+BlockTarget || p[13]|p[14]|p[15] != 0 {
			return nil, wrong(name, ErrCorrupt, "block %d lies at %d and unpacks to %d bytes", len(blocks), b.off, b.raw)
		}
		end = b.off + b.size
		blocks = append(blocks, b)
	}
	if end != room {
		return nil, wrong(name, ErrCorrupt, "blocks of %d bytes in %d", end, room)
	}
	return blocks, nil
}

func (s *Segment) decodeIndex(p []byte) ([]Extent, error) {
	index := make([]Extent, 0, len(p)/extentEntry)
	for ; len(p) > 0; p = p[extentEntry:] {
		e := Extent{Disk: le.Uint16(p), Zero: p[2] == 1, Off: int64(le.Uint64(p[8:])), Len: int64(le.Uint64(p[16:])),
			Seq: le.Uint64(p[24:]), Block: le.Uint32(p[32:]), Pos: le.Uint32(p[36:])}
		ok := p[2] <= 1 && le.Uint32(p[3:])|uint32(p[7]) == 0
		ok = ok && e.Off >= 0 && e.Off%Sector == 0 && e.Len > 0 && e.Len%Sector == 0 && e.Off <= 1<<62 && e.Len <= MaxZero
		ok = ok && e.Seq > 0 && e.Seq <= s.Binding.Last
		if n := len(index); ok && n > 0 {
			prev := index[n-1]
			ok = prev.Disk < e.Disk || prev.Disk == e.Disk && prev.End() <= e.Off
		}
		if ok && !e.Zero {
			ok = int64(e.Block) < int64(len(s.blocks)) && int64(e.Pos)+e.Len <= s.blocks[e.Block].raw
		}
		if !ok {
			return nil, wrong(s.o.name, ErrCorrupt, "extent %d of its index: %+v", len(index), e)
		}
		index = append(index, e)
	}
	return index, nil
}

// Index is the sorted list of what the object holds; it must not be changed.
func (s *Segment) Index() []Extent { return s.index }

// Blocks is the number of blocks.
func (s *Segment) Blocks() int { return len(s.blocks) }

// Block reads and unpacks one block. The bytes that an extent names lie in it from Extent.Pos on.
func (s *Segment) Block(i uint32) ([]byte, error) {
	if int64(i) >= int64(len(s.blocks)) {
		return nil, wrong(s.o.name, ErrCorrupt, "block %d of %d", i, len(s.blocks))
	}
	b := s.blocks[i]
	p, err := s.o.read(s.o.start+b.off, b.size)
	if err != nil {
		return nil, err
	}
	return unpack(s.o.name, p, b.codec, b.raw)
}

// Each gives the records in their order until yield gives false. A record's Data may be kept; it must not be changed.
func (s *Segment) Each(yield func(*Record) bool) error {
	seen := 0
	for i := range s.blocks {
		p, err := s.Block(uint32(i))
		if err != nil {
			return err
		}
		for len(p) > 0 {
			r, n, err := decodeRecord(p)
			if err == nil {
				err = r.Validate()
			}
			if err != nil {
				var e *Error
				if errors.As(err, &e) {
					err = errors.New(e.Detail)
				}
				return wrong(s.o.name, ErrCorrupt, "record %d of block %d: %v", seen, i, err)
			}
			seen++
			if p = p[n:]; !yield(&r) {
				return nil
			}
		}
	}
	if seen != s.Records {
		return wrong(s.o.name, ErrCorrupt, "it holds %d records, its footer tells of %d", seen, s.Records)
	}
	return nil
}

// IndexAt is the sorted list of what a segment's records up to position upTo wrote. Unless upTo is inside the segment it costs nothing.
func (s *Segment) IndexAt(upTo uint64) ([]Extent, error) {
	if upTo >= s.Binding.Last {
		return s.index, nil
	}
	all, err := s.extents(upTo)
	return NewestWins(all), err
}

// extents lists what every record up to upTo wrote, in the order of the records.
func (s *Segment) extents(upTo uint64) ([]Extent, error) {
	var all []Extent
	block, pos := 0, int64(0)
	err := s.Each(func(r *Record) bool {
		for pos >= s.blocks[block].raw {
			block, pos = block+1, 0
		}
		if r.Seq > upTo {
			return false
		}
		if r.Kind == Write || r.Kind == Zero {
			e := Extent{Disk: r.Disk, Off: r.Off, Len: r.Len, Seq: r.Seq, Zero: r.Kind == Zero}
			if !e.Zero {
				e.Block, e.Pos = uint32(block), uint32(pos)+recordHead
			}
			all = append(all, e)
		}
		pos += int64(RecordSize(r))
		return true
	})
	return all, err
}
