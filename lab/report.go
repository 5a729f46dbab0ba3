package lab

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// Result is what a scenario found.
type Result struct {
	Scenario string `json:"scenario"`
	// Passed tells whether every check did.
	Passed  bool     `json:"passed"`
	Checks  []Check  `json:"checks"`
	Figures []Figure `json:"figures"`
}

// Check is one thing that must hold.
type Check struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail"`
}

// Figure is one measured value.
type Figure struct {
	// Name is one of outage_p50, outage_max, detect_p50, lost_packets, tcp_resets, false_failovers and a few more.
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	// Unit is ms or count.
	Unit string `json:"unit"`
	// Peer is who was measured; empty for Understudy.
	Peer string `json:"peer,omitempty"`
	// Fault that was injected.
	Fault string `json:"fault,omitempty"`
}

func (r *Result) check(name string, passed bool, format string, args ...any) {
	r.Checks = append(r.Checks, Check{name, passed, fmt.Sprintf(format, args...)})
}

func (r *Result) figure(f Figure) { r.Figures = append(r.Figures, f) }

// finish decides whether the scenario passed: at least one check, and none failed.
func (r *Result) finish() {
	r.Passed = len(r.Checks) > 0 && !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.Passed })
}

// Print writes the result for people: the checks, then one table row a fault and contender.
func (r *Result) Print(w io.Writer) error {
	fmt.Fprintln(w)
	for _, c := range r.Checks {
		mark := "ok  "
		if !c.Passed {
			mark = "FAIL"
		}
		fmt.Fprintf(w, "%s  %s: %s\n", mark, c.Name, c.Detail)
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := r.columns()
	fmt.Fprint(tw, "fault\twho\t")
	for _, c := range columns {
		fmt.Fprintf(tw, "%s\t", c)
	}
	fmt.Fprintln(tw)
	for _, row := range r.rows() {
		who := row.Peer
		if who == "" {
			who = "understudy"
		}
		fmt.Fprintf(tw, "%s\t%s\t", row.Fault, who)
		for _, c := range columns {
			fmt.Fprintf(tw, "%s\t", r.cell(row, c))
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	verdict := "passed"
	if !r.Passed {
		verdict = "FAILED"
	}
	_, err := fmt.Fprintf(w, "\n%s: %s\n", r.Scenario, verdict)
	return err
}

// columns are the figures' names in the order they first appear.
func (r *Result) columns() (names []string) {
	for _, f := range r.Figures {
		if !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

// rows are the pairs of fault and contender: fault by fault, Understudy first.
func (r *Result) rows() (rows []Figure) {
	var faults []string
	for _, f := range r.Figures {
		if !slices.Contains(faults, f.Fault) {
			faults = append(faults, f.Fault)
		}
		row := Figure{Peer: f.Peer, Fault: f.Fault}
		if !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b Figure) int { return slices.Index(faults, a.Fault) - slices.Index(faults, b.Fault) })
	return rows
}

func (r *Result) cell(row Figure, name string) string {
	for _, f := range r.Figures {
		if f.Name != name || f.Peer != row.Peer || f.Fault != row.Fault {
			continue
		}
		v := strconv.FormatFloat(f.Value, 'f', -1, 64)
		if f.Unit == "count" {
			return v
		}
		return v + " " + f.Unit
	}
	return "-"
}

// milliseconds rounds to a tenth.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

// median of durations; the lower one of the middle two. 0 for none.
func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)/2]
}
