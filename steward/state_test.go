package steward

import (
	"os"
	"strings"
	"testing"
)

// TestFormatExample reads the example of the format's page.
func TestFormatExample(t *testing.T) {
	page, err := os.ReadFile("../docs/formats/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the page has no example")
	}
	s, err := DecodeState([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	k := s.Sections["routes|ApplianceGroup/default/dmz"]
	if s.Gate.Epoch != 4 || k.Token.Generation != 2 || k.Section.Routes.Routes[0].Via != "10.0.0.5" {
		t.Fatalf("read %+v", s)
	}
	again, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if t2, err := DecodeState(again); err != nil || t2.Sections["routes|ApplianceGroup/default/dmz"].Token != k.Token {
		t.Fatalf("written and read again: %+v, %v", t2, err)
	}
}
