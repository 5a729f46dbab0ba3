package disk

import (
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	exampleState = identity{
		Serial: 7, Machine: "m-4f2c", Stream: "m-4f2c-1", Epoch: 3, Granule: 64 << 10, Reserved: 4194305, Stored: 812,
		Boot: "6e0f2f5c", Suspect: true, Disks: []diskID{{ID: "root", Size: 8 << 30}, {ID: "data", Size: 1 << 30}},
	}
	exampleBitmap = bitmapHead{
		Generation: 5, Stream: "m-4f2c-1", Granule: 64 << 10, Initial: true, ZeroBase: true, Sizes: []int64{8 << 30, 1 << 30},
	}
	exampleActivity = activityImage{
		Serial: 2, Size: 4 << 20, Slots: 1024, Hot: []extent{extentOf(0, 0, 4<<20), extentOf(0, 64<<20, 4<<20), extentOf(1, 4<<20, 4<<20)},
	}
)

// documented reads the hex dumps of docs/formats/capture.md: lines of an offset and up to 16 bytes, the rest is zero.
func documented(t *testing.T, heading string) map[int][]byte {
	t.Helper()
	doc, err := os.ReadFile("../../docs/formats/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("the page has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	lines := map[int][]byte{}
	for _, m := range regexp.MustCompile(`(?m)^([0-9a-f]{4}): ([0-9a-f ]+)$`).FindAllStringSubmatch(section, -1) {
		at, _ := hex.DecodeString(m[1])
		b, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		lines[int(at[0])<<8|int(at[1])] = b
	}
	return lines
}

// dump writes a block as the page has it.
func dump(b []byte) string {
	var s strings.Builder
	for at := 0; at < len(b); at += 16 {
		if line := b[at:min(at+16, len(b))]; !isZero(line) {
			s.WriteString(hex.EncodeToString([]byte{byte(at >> 8), byte(at)}) + ":")
			for i := 0; i < len(line); i += 2 {
				s.WriteString(" " + hex.EncodeToString(line[i:i+2]))
			}
			s.WriteString("\n")
		}
	}
	return s.String()
}

func TestDocumentedExamples(t *testing.T) {
	for _, c := range []struct {
		heading string
		encoded []byte
		want    any
		decode  func([]byte) (any, error)
	}{
		{"State", exampleState.encode(), exampleState, func(b []byte) (any, error) { return decodeIdentity(b) }},
		{"Bitmaps", exampleBitmap.encode(), exampleBitmap, func(b []byte) (any, error) { return decodeBitmapHead(b) }},
		{"Activity log", exampleActivity.encode(), exampleActivity, func(b []byte) (any, error) { return decodeActivity(b) }},
	} {
		block := make([]byte, len(c.encoded))
		for at, line := range documented(t, c.heading) {
			copy(block[at:], line)
		}
		if !slices.Equal(block, c.encoded) {
			t.Errorf("%s: the page has another example; the program writes\n%s", c.heading, dump(c.encoded))
			continue
		}
		got, err := c.decode(block)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: read as %+v, %v", c.heading, got, err)
		}
	}
}

func TestDecodersRefuse(t *testing.T) {
	state, bitmap, log := exampleState.encode(), exampleBitmap.encode(), exampleActivity.encode()
	for name, decode := range map[string]func([]byte) error{
		"state":    func(b []byte) error { _, err := decodeIdentity(b); return err },
		"bitmap":   func(b []byte) error { _, err := decodeBitmapHead(b); return err },
		"activity": func(b []byte) error { _, err := decodeActivity(b); return err },
	} {
		good := map[string][]byte{"state": state, "bitmap": bitmap, "activity": log}[name]
		for at := range good {
			bad := slices.Clone(good)
			bad[at] ^= 0x10
			if err := decode(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s with byte %d changed: %v", name, at, err)
			}
		}
		newer := slices.Clone(good)
		newer[4] = 2
		magic := string(newer[:4])
		seal(newer, magic)
		le.PutUint32(newer[4:], 2)
		le.PutUint32(newer[len(newer)-4:], sum(newer[:len(newer)-4]))
		if err := decode(newer); !errors.Is(err, ErrVersion) {
			t.Errorf("%s of version 2: %v", name, err)
		}
		if err := decode(nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}

// fuzzed decodes anything under a right checksum, and what is read must be written the same.
func fuzzed(f *testing.F, magic string, example []byte, decode func(b []byte) (again []byte, err error)) {
	f.Add(example[8:200])
	f.Fuzz(func(t *testing.T, fields []byte) {
		b := make([]byte, pageSize)
		copy(b[8:pageSize-4], fields)
		seal(b, magic)
		again, err := decode(b)
		if err != nil {
			return
		}
		if _, err := decode(again); err != nil {
			t.Errorf("what was read and written again is refused: %v", err)
		}
	})
}

func FuzzState(f *testing.F) {
	fuzzed(f, stateMagic, exampleState.encode(), func(b []byte) ([]byte, error) {
		s, err := decodeIdentity(b)
		if err != nil {
			return nil, err
		}
		return s.encode(), nil
	})
}

func FuzzBitmapHead(f *testing.F) {
	fuzzed(f, bitmapMagic, exampleBitmap.encode(), func(b []byte) ([]byte, error) {
		h, err := decodeBitmapHead(b)
		if err != nil {
			return nil, err
		}
		return h.encode(), nil
	})
}

func FuzzActivity(f *testing.F) {
	small := activityImage{Serial: 2, Size: 4 << 20, Slots: 100, Hot: exampleActivity.Hot}
	fuzzed(f, activityMagic, small.encode(), func(b []byte) ([]byte, error) {
		a, err := decodeActivity(b)
		if err != nil {
			return nil, err
		}
		return a.encode(), nil
	})
}
