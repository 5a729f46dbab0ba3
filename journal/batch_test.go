package journal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// docExample gives the bytes of the named example in the format's page.
func docExample(t *testing.T, page, name string) []byte {
	t.Helper()
	doc, err := os.ReadFile("../docs/formats/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```"+name+"\n")
	text, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatalf("%s has no example %q", page, name)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatalf("the example %q: %v", name, err)
	}
	return b
}

func exampleRecords() []Record {
	at := time.Unix(1_800_000_000, 5).UTC()
	return []Record{
		{Seq: 7, Kind: Write, Disk: 1, Flags: FUA, Off: 4096, Len: 512, Data: bytes.Repeat([]byte{0xab}, 512), Time: 1_800_000_000_000_000_001},
		{Seq: 8, Kind: Point, Time: 1_800_000_000_000_000_006, Point: &PointInfo{ID: "p1", At: at, Consistency: Crash, Tag: "t"}},
	}
}

func TestTheDocumentedBatchIsWhatWeWrite(t *testing.T) {
	want := docExample(t, "segment.md", "batch")
	got, err := AppendBatch(nil, exampleRecords())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("wrote\n%x\nthe page shows\n%x", got, want)
	}
	recs, err := DecodeBatch(want)
	if err != nil || !reflect.DeepEqual(recs, exampleRecords()) {
		t.Errorf("read %+v, %v", recs, err)
	}
}

func TestEveryKindComesBack(t *testing.T) {
	recs := []Record{
		{Seq: 1, Kind: GapBegin, From: 1},
		{Seq: 2, Kind: Zero, Off: 512, Len: MaxZero, Flags: 0x80},
		{Seq: 3, Kind: Flush, Disk: 65535, Time: -1},
		{Seq: 4, Kind: Write, Off: 1 << 62, Len: 1024, Data: make([]byte, 1024), Flags: Resync},
		{Seq: 9, Kind: GapBegin, From: 5},
		{Seq: 10, Kind: GapEnd},
		{Seq: 11, Kind: Point, Point: &PointInfo{ID: "é", At: time.Unix(0, 0).UTC(), Consistency: App, Notes: "n"}},
	}
	b, err := AppendBatch([]byte("kept"), recs)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 4+BatchSize(recs) || string(b[:4]) != "kept" {
		t.Fatalf("%d bytes, BatchSize says %d", len(b)-4, BatchSize(recs))
	}
	got, err := DecodeBatch(b[4:])
	if err != nil || !reflect.DeepEqual(got, recs) {
		t.Errorf("%+v, %v", got, err)
	}
	if first, last := BatchSpan(b[4:]); first != 1 || last != 11 {
		t.Errorf("spans %d to %d", first, last)
	}
}

func TestRefusalsNameTheFieldAndTheValue(t *testing.T) {
	data := make([]byte, 512)
	for want, recs := range map[string][]Record{
		"no records":               nil,
		"seq is 0":                 {{Kind: Flush}},
		"kind is 9":                {{Seq: 1, Kind: 9}},
		"point set: false":         {{Seq: 1, Kind: Point}},
		"from is 3 in a flush":     {{Seq: 4, Kind: Flush, From: 3}},
		"from is 5 in a gap-begin": {{Seq: 4, Kind: GapBegin, From: 5}},
		"offset is 5":              {{Seq: 1, Kind: Write, Off: 5, Len: 512, Data: data}},
		"offset is -512":           {{Seq: 1, Kind: Write, Off: -512, Len: 512, Data: data}},
		"length is 0":              {{Seq: 1, Kind: Zero}},
		"carries 512 bytes":        {{Seq: 1, Kind: Write, Len: 1024, Data: data}},
		"a zero of 512 bytes":      {{Seq: 1, Kind: Zero, Len: 512, Data: data}},
		"has a range":              {{Seq: 1, Kind: Flush, Len: 512}},
		"has no id":                {{Seq: 1, Kind: Point, Point: &PointInfo{Consistency: App}}},
		`consistency is "x"`:       {{Seq: 1, Kind: Point, Point: &PointInfo{ID: "a", Consistency: "x"}}},
		"stands after record 1":    {{Seq: 1, Kind: Flush}, {Seq: 3, Kind: Flush}},
		"(gap-begin) stands after": {{Seq: 1, Kind: Flush}, {Seq: 4, Kind: GapBegin, From: 3}},
	} {
		if _, err := AppendBatch(nil, recs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestABatchWithAnyByteChangedIsRefused(t *testing.T) {
	good, _ := AppendBatch(nil, exampleRecords())
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := DecodeBatch(bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, _, err := SplitBatch(good[:i]); !errors.Is(err, ErrTruncated) {
			t.Errorf("the first %d bytes: %v", i, err)
		}
	}
	two := append(bytes.Clone(good), good...)
	if batch, rest, err := SplitBatch(two); err != nil || !bytes.Equal(batch, good) || !bytes.Equal(rest, good) {
		t.Errorf("splitting two: %v", err)
	}
}

func FuzzDecodeBatch(f *testing.F) {
	good, _ := AppendBatch(nil, exampleRecords())
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		fixChecksum(b)
		recs, err := DecodeBatch(b)
		if err != nil {
			return
		}
		again, err := AppendBatch(nil, recs)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("accepted bytes do not come back: %v\n%x\n%x", err, b, again)
		}
	})
}

// fixChecksum lets the fuzzer past the checksum.
func fixChecksum(b []byte) {
	if len(b) < batchHead+batchTail {
		return
	}
	if n := int64(le.Uint32(b[12:])); batchHead+n+batchTail == int64(len(b)) {
		le.PutUint32(b[batchHead+n:], checksum(b[:batchHead+n]))
	}
}
