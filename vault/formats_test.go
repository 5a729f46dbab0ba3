package vault

import (
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/journal"
)

// example gives the text of a fenced example in the format's page.
func example(t testing.TB, name string) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/formats/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```"+name+"\n")
	text, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatalf("the page has no example %q", name)
	}
	return text
}

func TestTheDocumentedLayerIndexIsRead(t *testing.T) {
	b, err := hex.DecodeString(strings.Join(strings.Fields(example(t, "layer-index")), ""))
	if err != nil {
		t.Fatal(err)
	}
	want := part{disk: 0, last: 1, extents: 2, first: 4096, end: 1 << 20, size: 300}
	for i := range want.hash {
		want.hash[i] = 0xab
	}
	got, err := decodeParts("x", b)
	if err != nil || !reflect.DeepEqual(got, []part{want}) || !reflect.DeepEqual(encodeParts(got), b) {
		t.Errorf("%+v, %v", got, err)
	}
}

func exampleVault() *Vault { return &Vault{root: Root{ID: "3f5b6c0000000000000000000000aa01"}} }

func TestTheDocumentedHeadIsRead(t *testing.T) {
	h, err := exampleVault().decodeHead("m-1", []byte(example(t, "json")))
	if err != nil {
		t.Fatal(err)
	}
	if h.Seq != 8 || h.Tail[0].After != 6 || h.Points[0].ID != "p1" || h.Points[0].Consistency != journal.Crash || h.Disks[0].Size != 1<<30 {
		t.Errorf("%+v", h)
	}
}

func FuzzHead(f *testing.F) {
	f.Add([]byte(example(f, "json")))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := exampleVault().decodeHead("m-1", b)
		if err != nil {
			return
		}
		s := &state{head: *h, segments: h.Tail, points: h.Points, gaps: mergeGaps(h.Gaps)}
		use(s)
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"stream":"m-1","layers":[{"from":0,"to":4,"name":"a","parts":1}],"segments":[{"a":4,"f":5,"l":6,"n":"x","z":9}],"gaps":[{"from":3}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest("x", "m-1", b, 100)
		if err != nil {
			return
		}
		use(&state{head: head{Seq: 100}, layers: m.Layers, segments: m.Segments, points: m.Points, gaps: mergeGaps(m.Gaps)})
	})
}

// use does with a state what the package does; it must not panic or hang, whatever was accepted.
func use(s *state) {
	t := small()
	s.nextMerge(&t)
	all := s.paths()
	for _, seq := range s.needs() {
		steps, _ := all.to(seq)
		s.keysOf(steps)
	}
	s.dropUnused(s.needs())
}

func FuzzParts(f *testing.F) {
	f.Add(encodeParts([]part{{size: 1, extents: 1, end: 512}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if parts, err := decodeParts("x", b); err == nil && !reflect.DeepEqual(encodeParts(parts), b) {
			t.Error("accepted bytes do not come back")
		}
	})
}

func FuzzPin(f *testing.F) {
	f.Add([]byte(`{"format":1,"stream":"m-1","seq":4,"expires":"2027-01-15T08:00:00Z","keys":["a","b/"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodePin("x", b); (p == nil) == (err == nil) {
			t.Errorf("%v %v", p, err)
		}
	})
}
