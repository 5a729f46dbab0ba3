package volume

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

// TestHeaderIsAsDocumented reads the example of docs/formats/volume.md.
func TestHeaderIsAsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/formats/volume.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```hex\n")
	dump, rest, _ := strings.Cut(rest, "```")
	_, rest, _ = strings.Cut(rest, "508: `")
	sum, _, _ := strings.Cut(rest, "`")
	b := make([]byte, headerSize)
	start, err := hex.DecodeString(strings.Join(strings.Fields(dump), ""))
	if err != nil {
		t.Fatal(err)
	}
	copy(b, start)
	want := header{size: 1 << 20, inPlace: true, boot: "7b13bf6e-4b0e-4ea6-9a1e-0c8a3c486d01", missing: 1}
	encoded := want.encode()
	if got := hex.EncodeToString(encoded[headerSize-4:]); got != strings.ReplaceAll(sum, " ", "") {
		t.Errorf("checksum %s, documented %s", got, sum)
	}
	copy(b[headerSize-4:], encoded[headerSize-4:])
	if !bytes.Equal(b, encoded) {
		t.Errorf("encoded\n%x\ndocumented\n%x", encoded, b)
	}
	if got, err := decodeHeader(b); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
}

func TestSpoiledMapsAreRefused(t *testing.T) {
	good := header{size: 1 << 20, boot: "b", missing: 0}.encode()
	for _, i := range []int{0, 8, 12, 16, 24, 28, 64, 100, 511} {
		b := bytes.Clone(good)
		b[i] ^= 1
		var wrong *MapError
		if _, err := decodeHeader(b); !errors.As(err, &wrong) {
			t.Errorf("byte %d spoiled: %v", i, err)
		}
	}
	list := encodeMissing([]Range{{0, 512}, {1024, 512}})
	if got, err := decodeMissing(list, 4096); err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	for _, bad := range [][]Range{{{1024, 512}, {0, 512}}, {{0, 0}}, {{4096, 512}}, {{0, 1024}, {512, 512}}} {
		if _, err := decodeMissing(encodeMissing(bad), 4096); err == nil {
			t.Errorf("%v passed", bad)
		}
	}
	list[3] ^= 1
	if _, err := decodeMissing(list, 4096); err == nil {
		t.Error("a spoiled list passed")
	}
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add(header{size: 1 << 20, inPlace: true, boot: "b", missing: 3}.encode())
	f.Add([]byte(mapMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err == nil && !bytes.Equal(h.encode()[:28], b[:28]) {
			t.Errorf("%+v encodes to something else", h)
		}
	})
}

func FuzzDecodeMissing(f *testing.F) {
	f.Add(encodeMissing([]Range{{0, 512}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b)%16 == 4 {
			_, _ = decodeMissing(b, 1<<40)
		}
	})
}
