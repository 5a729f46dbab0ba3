package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

func newKey(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// randomRecords makes n records over two small disks, from position first on.
func randomRecords(r *rand.Rand, first uint64, n int) []Record {
	recs := make([]Record, 0, n)
	for i := range n {
		seq := first + uint64(i)
		off, size := int64(r.IntN(200))*Sector, int64(1+r.IntN(16))*Sector
		rec := Record{Seq: seq, Disk: uint16(r.IntN(2)), Time: int64(seq)}
		switch k := r.IntN(20); {
		case k < 14:
			data := make([]byte, size)
			binary.LittleEndian.PutUint64(data, seq)
			if r.IntN(2) == 0 {
				for j := range data {
					data[j] = byte(r.Uint32())
				}
			}
			rec.Kind, rec.Off, rec.Len, rec.Data = Write, off, size, data
		case k < 17:
			rec.Kind, rec.Off, rec.Len = Zero, off, size*3
		case k < 18:
			rec.Kind = Flush
		default:
			rec.Kind, rec.Disk = Point, 0
			rec.Point = &PointInfo{ID: fmt.Sprint("p", seq), At: time.Unix(0, int64(seq)).UTC(), Consistency: Crash}
		}
		recs = append(recs, rec)
	}
	return recs
}

const imageSize = 256 * Sector

type image [2][]byte

func newImage() image { return image{make([]byte, imageSize), make([]byte, imageSize)} }

func (m image) apply(r *Record) {
	switch r.Kind {
	case Write:
		copy(m[r.Disk][r.Off:], r.Data)
	case Zero:
		clear(m[r.Disk][r.Off:r.End()])
	}
}

// paint puts what an index names onto an image.
func paint(t *testing.T, m image, s *Segment, index []Extent) {
	t.Helper()
	for _, e := range index {
		dst := m[e.Disk][e.Off:e.End()]
		clear(dst)
		if !e.Zero {
			b, err := s.Block(e.Block)
			if err != nil {
				t.Fatal(err)
			}
			copy(dst, b[e.Pos:])
		}
	}
}

func TestSegmentGivesEveryPrefixBack(t *testing.T) {
	key := newKey(t)
	seeds := uint64(20)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 1))
		recs := randomRecords(r, 5, 1+r.IntN(150))
		bind := Binding{Vault: "v", Stream: "s-1", Epoch: 3, Prev: Sum([]byte("before"))}
		made, err := SealSegment(bind, recs, key.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		bind.Type, bind.First, bind.Last = SegmentObject, 5, recs[len(recs)-1].Seq
		if err := Verify("x", made.Object, made.Hash, bind, key); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		s, err := Open("x", bytes.NewReader(made.Object), int64(len(made.Object)), bind, key)
		if err != nil {
			t.Fatal(err)
		}
		var got []Record
		if err := s.Each(func(r *Record) bool { got = append(got, *r); return true }); err != nil || !reflect.DeepEqual(got, recs) {
			t.Fatalf("seed %d: records differ: %v", seed, err)
		}
		want := newImage()
		for i := range recs {
			want.apply(&recs[i])
			index, err := s.IndexAt(recs[i].Seq)
			if err != nil {
				t.Fatal(err)
			}
			have := newImage()
			paint(t, have, s, index)
			if !bytes.Equal(have[0], want[0]) || !bytes.Equal(have[1], want[1]) {
				t.Fatalf("seed %d: differs at position %d", seed, recs[i].Seq)
			}
		}
	}
}

func TestBadObjectsAreRefusedByClass(t *testing.T) {
	key := newKey(t)
	bind := Binding{Vault: "v", Stream: "s-1", Epoch: 3}
	recs := randomRecords(rand.New(rand.NewPCG(1, 1)), 1, 100)
	made, err := SealSegment(bind, recs, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	bind.Type, bind.First, bind.Last = SegmentObject, 1, 100
	check := func(what string, object []byte, want Binding, id age.Identity, class error) {
		t.Helper()
		err := Verify("streams/s-1/segments/1", object, Sum(object), want, id)
		var e *Error
		if !errors.Is(err, class) || !errors.As(err, &e) || e.Object != "streams/s-1/segments/1" {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("another key", made.Object, bind, newKey(t), ErrWrongKey)
	for _, change := range []func(*Binding){
		func(b *Binding) { b.Vault = "w" }, func(b *Binding) { b.Stream = "s-2" }, func(b *Binding) { b.Epoch++ },
		func(b *Binding) { b.First++ }, func(b *Binding) { b.Last++ }, func(b *Binding) { b.Prev[3]++ }, func(b *Binding) { b.Type = LayerObject },
	} {
		elsewhere := bind
		change(&elsewhere)
		check("elsewhere "+elsewhere.String(), made.Object, elsewhere, key, ErrReplayed)
	}
	for i := 0; i < len(made.Object); i += 1 + len(made.Object)/300 {
		bad := bytes.Clone(made.Object)
		bad[i] ^= 1
		if err := Verify("x", bad, Sum(bad), bind, key); err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
		check(fmt.Sprintf("cut at %d", i), made.Object[:i], bind, key, ErrCorrupt)
	}
	other, err := SealSegment(Binding{Vault: "v", Stream: "s-1", Epoch: 3}, recs, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify("x", other.Object, made.Hash, bind, key); !errors.Is(err, ErrReplayed) {
		t.Errorf("same place, another object: %v", err)
	}
}

// brokenSource fails as a network does.
type brokenSource struct{}

func (brokenSource) ReadAt([]byte, int64) (int, error) { return 0, errors.New("connection reset") }

func TestASourceThatFailsIsNotCorruption(t *testing.T) {
	_, err := Open("x", brokenSource{}, 5000, Binding{}, newKey(t))
	var source *SourceError
	if errors.Is(err, ErrCorrupt) || !errors.As(err, &source) {
		t.Errorf("%v", err)
	}
}

func TestLayerPart(t *testing.T) {
	key := newKey(t)
	bind := Binding{Vault: "v", Stream: "s-1", First: 1, Last: 90, Part: 2}
	var w PartWriter
	for i := range 50 {
		rec := Record{Seq: uint64(90 - i), Kind: Zero, Disk: uint16(i / 25), Off: int64(i%25) * 8192, Len: 4096}
		if i%3 > 0 {
			rec.Kind, rec.Data = Write, bytes.Repeat([]byte{byte(i)}, 4096)
		}
		if err := w.Add(&rec); err != nil {
			t.Fatal(err)
		}
	}
	back := Record{Seq: 1, Kind: Zero, Disk: 1, Off: 0, Len: 512}
	if err := w.Add(&back); err == nil || !strings.Contains(err.Error(), "stands after") {
		t.Errorf("going back: %v", err)
	}
	made, err := w.Seal(bind, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	bind.Type = LayerObject
	if err := Verify("x", made.Object, made.Hash, bind, key); err != nil {
		t.Fatal(err)
	}
	info, err := Inspect("x", bytes.NewReader(made.Object), int64(len(made.Object)), key)
	if err != nil || info.Extents != 50 || info.Kinds["zero"] != 17 || info.Last != 90 {
		t.Errorf("%+v %v", info, err)
	}
}

func TestTheDocumentedSegmentIsRead(t *testing.T) {
	object := docExample(t, "segment.md", "segment")
	id, err := age.ParseX25519Identity("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
	if err != nil {
		t.Fatal(err)
	}
	bind := Binding{Type: SegmentObject, Vault: "3f5b", Stream: "m-1", Epoch: 2, First: 7, Last: 8}
	if err := Verify("example", object, Sum(object), bind, id); err != nil {
		t.Fatal(err)
	}
	s, _ := Open("example", bytes.NewReader(object), int64(len(object)), bind, id)
	var recs []Record
	if err := s.Each(func(r *Record) bool { recs = append(recs, *r); return true }); err != nil || !reflect.DeepEqual(recs, exampleRecords()) {
		t.Errorf("%+v %v", recs, err)
	}
}

func FuzzSegment(f *testing.F) {
	key := newKey(f)
	bind := Binding{Vault: "v", Stream: "s", Epoch: 1}
	made, err := SealSegment(bind, randomRecords(rand.New(rand.NewPCG(1, 1)), 1, 6), key.Recipient())
	if err != nil {
		f.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(made.Object), key)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, p []byte) {
		o, err := openPlain(&sealed{name: "x", src: bytes.NewReader(p), plain: bytes.NewReader(p), size: int64(len(p))})
		if err != nil {
			return
		}
		s, err := newSegment(o)
		if err != nil {
			return
		}
		if s.Verify() == nil && s.Binding.Type == SegmentObject {
			for seq := s.Binding.First; seq <= s.Binding.Last && seq < s.Binding.First+5; seq++ {
				if _, err := s.IndexAt(seq); err != nil {
					t.Errorf("verified, but: %v", err)
				}
			}
		}
	})
}
