package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// Verify reads everything: records that follow each other from First to Last, and an index that is what they say.
func (s *Segment) Verify() error {
	if s.Binding.Type == SegmentObject {
		if err := s.verifyOrder(); err != nil {
			return err
		}
	}
	all, err := s.extents(^uint64(0))
	if err != nil {
		return err
	}
	want := NewestWins(all)
	if len(want) != len(s.index) {
		return wrong(s.o.name, ErrCorrupt, "its index has %d extents, its records give %d", len(s.index), len(want))
	}
	for i := range want {
		if want[i] != s.index[i] {
			return wrong(s.o.name, ErrCorrupt, "its index says %+v, its records %+v", s.index[i], want[i])
		}
	}
	return nil
}

func (s *Segment) verifyOrder() error {
	last, bad := uint64(0), error(nil)
	err := s.Each(func(r *Record) bool {
		if last == 0 && r.Seq != s.Binding.First || last != 0 && !Follows(last, r) {
			bad = wrong(s.o.name, ErrCorrupt, "record %d (%s) stands after record %d", r.Seq, r.Kind, last)
		}
		last = r.Seq
		return bad == nil
	})
	if err == nil && bad == nil && last != s.Binding.Last {
		bad = wrong(s.o.name, ErrCorrupt, "its last record is %d; it is bound to end with %d", last, s.Binding.Last)
	}
	return errors.Join(err, bad)
}

// Info is what Inspect tells of an object.
type Info struct {
	Name    string         `json:"name"`
	Type    ObjectType     `json:"type"`
	Vault   string         `json:"vault"`
	Stream  string         `json:"stream"`
	Epoch   uint64         `json:"epoch"`
	First   uint64         `json:"first"`
	Last    uint64         `json:"last"`
	Prev    Hash           `json:"prev"`
	Records int            `json:"records"`
	Blocks  int            `json:"blocks"`
	Extents int            `json:"extents"`
	Packed  int64          `json:"packedBytes"`
	Raw     int64          `json:"rawBytes"`
	Kinds   map[string]int `json:"kinds"`
}

// Inspect describes a segment or a layer's part, wherever it belongs.
func Inspect(name string, src io.ReaderAt, size int64, ids ...age.Identity) (Info, error) {
	s, err := openAny(name, src, size, ids...)
	if err != nil {
		return Info{}, err
	}
	b := s.Binding
	info := Info{Name: name, Type: b.Type, Vault: b.Vault, Stream: b.Stream, Epoch: b.Epoch, First: b.First, Last: b.Last, Prev: b.Prev,
		Records: s.Records, Blocks: len(s.blocks), Extents: len(s.index), Packed: size, Kinds: map[string]int{}}
	for _, k := range s.blocks {
		info.Raw += k.raw
	}
	err = s.Each(func(r *Record) bool { info.Kinds[r.Kind.String()]++; return true })
	return info, err
}

// Verify checks a segment's or part's whole object: its hash, its place, its records and its index.
func Verify(name string, object []byte, hash Hash, want Binding, ids ...age.Identity) error {
	if got := Sum(object); got != hash {
		if _, err := openAny(name, bytes.NewReader(object), int64(len(object)), ids...); err != nil {
			return err
		}
		return wrong(name, ErrReplayed, "it is another object: its hash is %.16s, the vault refers to %.16s", got, hash)
	}
	s, err := Open(name, bytes.NewReader(object), int64(len(object)), want, ids...)
	if err != nil {
		return err
	}
	if err := s.Verify(); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}
