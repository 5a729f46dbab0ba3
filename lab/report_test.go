package lab

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestResultPasses(t *testing.T) {
	for _, c := range []struct {
		name   string
		checks []bool
		want   bool
	}{{"nothing checked", nil, false}, {"all held", []bool{true, true}, true}, {"one failed", []bool{true, false}, false}} {
		t.Run(c.name, func(t *testing.T) {
			var r Result
			for _, ok := range c.checks {
				r.check("c", ok, "")
			}
			if r.finish(); r.Passed != c.want {
				t.Errorf("passed = %t, want %t", r.Passed, c.want)
			}
		})
	}
}

func TestResultForPeopleAndMachines(t *testing.T) {
	r := Result{Scenario: "nva-switch"}
	sum := tally{outages: []time.Duration{90 * time.Millisecond, 110 * time.Millisecond, 100 * time.Millisecond},
		stalls: []time.Duration{time.Second}, lost: 42, rounds: 3}
	r.Figures = sum.figures("node", "")
	r.Figures = append(r.Figures, sum.figures("node", "keepalived-1s")...)
	r.check("node outage", true, "100 ms")
	r.finish()

	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ok    node outage: 100 ms", "outage_p50", "understudy", "keepalived-1s", "110 ms", "nva-switch: passed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"name":"outage_p50","value":100,"unit":"ms","peer":"keepalived-1s","fault":"node"}`; !strings.Contains(string(b), want) {
		t.Errorf("JSON lacks %s:\n%s", want, b)
	}
}
