package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/understudy-ha/understudy/journal"
)

// part is one object of a layer; parts are sorted and do not overlap.
type part struct {
	disk    uint16
	first   int64 // where its first extent begins
	end     int64 // where its last extent ends, on lastDisk
	last    uint16
	size    int64
	extents uint32
	hash    journal.Hash
}

const partEntry = 64

var (
	le         = binary.LittleEndian
	indexMagic = []byte("USLI")
)

// encodeParts makes the payload of a layer's index object.
func encodeParts(parts []part) []byte {
	b := append(make([]byte, 0, 8+partEntry*len(parts)), indexMagic...)
	b = le.AppendUint32(b, uint32(len(parts)))
	for _, p := range parts {
		b = le.AppendUint16(b, p.disk)
		b = le.AppendUint16(b, p.last)
		b = le.AppendUint32(b, p.extents)
		b = le.AppendUint64(b, uint64(p.first))
		b = le.AppendUint64(b, uint64(p.end))
		b = le.AppendUint64(b, uint64(p.size))
		b = append(b, p.hash[:]...)
	}
	return b
}

func decodeParts(key string, b []byte) ([]part, error) {
	if len(b) < 8 || !bytes.Equal(b[:4], indexMagic) || (len(b)-8)%partEntry != 0 || int64(le.Uint32(b[4:])) != int64((len(b)-8)/partEntry) {
		return nil, damaged(key, journal.ErrCorrupt, "%d bytes are no layer index", len(b))
	}
	parts := make([]part, 0, (len(b)-8)/partEntry)
	for b = b[8:]; len(b) > 0; b = b[partEntry:] {
		p := part{disk: le.Uint16(b), last: le.Uint16(b[2:]), extents: le.Uint32(b[4:]), first: int64(le.Uint64(b[8:])), end: int64(le.Uint64(b[16:])),
			size: int64(le.Uint64(b[24:])), hash: journal.Hash(b[32:64])}
		ok := p.first >= 0 && p.size > 0 && p.extents > 0 && (p.last > p.disk || p.last == p.disk && p.end > p.first)
		if n := len(parts); ok && n > 0 {
			ok = parts[n-1].last < p.disk || parts[n-1].last == p.disk && parts[n-1].end <= p.first
		}
		if !ok {
			return nil, damaged(key, journal.ErrCorrupt, "part %d of a layer: %+v", len(parts), p)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func partKey(stream, layer string, n int) string {
	return layerKey(stream, layer) + fmt.Sprintf("%07d", n)
}
func indexKey(stream, layer string) string { return layerKey(stream, layer) + "index" }

// openParts reads a layer's list of parts.
func (v *Vault) openParts(ctx context.Context, stream string, l *layerRef) ([]part, error) {
	key := indexKey(stream, l.Name)
	ids, err := v.identities("read", key)
	if err != nil {
		return nil, err
	}
	b, _, err := v.store.Get(ctx, key)
	if err != nil {
		return nil, referred("read", key, err)
	}
	payload, err := journal.Unseal(key, b, v.layerBinding(stream, l, journal.IndexObject, 0), ids...)
	if err != nil {
		return nil, err
	}
	if journal.Sum(b) != l.Hash {
		return nil, damaged(key, journal.ErrReplayed, "it is another object than the manifest refers to")
	}
	parts, err := decodeParts(key, payload)
	if err == nil && len(parts) != l.Parts {
		err = damaged(key, journal.ErrCorrupt, "it lists %d parts, the manifest tells of %d", len(parts), l.Parts)
	}
	return parts, err
}

// layerSource reads one layer. Its parts' indexes are opened when they are needed, and kept by the view's shelf.
type layerSource struct {
	v      *View
	stream string
	ref    layerRef
	parts  []part
	id     uint32 // of the first part among the view's objects
}

func (s *layerSource) to() uint64 { return s.ref.To }

// each gives the extents that overlap [off, end) of a disk, in order.
func (s *layerSource) each(ctx context.Context, disk uint16, off, end int64, yield func(found) bool) error {
	n := sort.Search(len(s.parts), func(i int) bool {
		p := &s.parts[i]
		return p.last > disk || p.last == disk && p.end > off
	})
	for ; n < len(s.parts); n++ {
		if p := &s.parts[n]; p.disk > disk || p.disk == disk && p.first >= end {
			return nil
		}
		seg, err := s.v.shelf.open(ctx, s.id+uint32(n), func(ctx context.Context) (*journal.Segment, *rangeReader, error) {
			return s.v.v.openObject(ctx, partKey(s.stream, s.ref.Name, n), s.parts[n].size, s.v.v.layerBinding(s.stream, &s.ref, journal.LayerObject, n))
		})
		if err != nil {
			return err
		}
		index := seg.Index()
		for _, e := range index[journal.Find(index, disk, off):] {
			if e.Disk > disk || e.Off >= end {
				return nil
			}
			if !yield(found{e, s.id + uint32(n), seg}) {
				return nil
			}
		}
	}
	return nil
}

// tailSource is the segments after the newest layer under a view, merged into one index.
type tailSource struct {
	index    []journal.Extent // Block counts through all segments
	first    []uint32         // number of each segment's first block
	segments []*journal.Segment
	id       uint32 // of the first segment among the view's objects
	last     uint64
}

func (s *tailSource) to() uint64 { return s.last }

func (s *tailSource) each(_ context.Context, disk uint16, off, end int64, yield func(found) bool) error {
	for _, e := range s.index[journal.Find(s.index, disk, off):] {
		if e.Disk > disk || e.Off >= end {
			return nil
		}
		i, exact := slices.BinarySearch(s.first, e.Block)
		if !exact {
			i--
		}
		e.Block -= s.first[i]
		if !yield(found{e, s.id + uint32(i), s.segments[i]}) {
			return nil
		}
	}
	return nil
}
