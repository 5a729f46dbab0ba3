package engines

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/capture"
)

func TestLettersAreAsSpecified(t *testing.T) {
	doc, err := os.ReadFile("../docs/formats/mailbox.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```json\n")
	text, _, _ := strings.Cut(rest, "```")
	var want Letter
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeLetter(b, "u1")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
}

func TestLettersAreRefused(t *testing.T) {
	good := Letter{Machine: "u1", Granule: 4096, Ranges: []capture.Range{{Off: 4096, Len: 8192}}, Hashes: [][]byte{{1}, {2}}}
	for name, spoil := range map[string]func(*Letter){
		"another machine's":   func(l *Letter) { l.Machine = "u2" },
		"no power of two":     func(l *Letter) { l.Granule = 5000 },
		"a range without end": func(l *Letter) { l.Ranges[0].Off, l.Ranges[0].Len, l.Hashes = 0, 1<<63-1, nil },
		"a granule of 1":      func(l *Letter) { l.Granule = 1 },
		"a range beside":      func(l *Letter) { l.Ranges[0].Off = 512 },
		"an empty range":      func(l *Letter) { l.Ranges[0].Len = 0 },
		"a range that wraps":  func(l *Letter) { l.Ranges[0].Off, l.Ranges[0].Len = 1<<62, 1<<62 },
		"a hash too many":     func(l *Letter) { l.Hashes = append(l.Hashes, []byte{3}) },
		"a hash is left out":  func(l *Letter) { l.Hashes = l.Hashes[:1] },
		"a range before zero": func(l *Letter) { l.Ranges[0].Off = -4096 },
	} {
		l := good
		l.Ranges = append([]capture.Range{}, good.Ranges...)
		spoil(&l)
		b, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeLetter(b, "u1"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzDecodeLetter(f *testing.F) {
	b, _ := Letter{Machine: "u1", Granule: 4096, Ranges: []capture.Range{{Off: 4096, Len: 8192}}}.Encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := DecodeLetter(b, "u1"); err == nil && l.check("u1") != nil {
			t.Fatalf("taken although %v", l.check("u1"))
		}
	})
}
