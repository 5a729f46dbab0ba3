package main

import (
	"fmt"
	"math"
	"os"

	"github.com/understudy-ha/understudy/lab"
)

// report is what a bench came to.
type report struct{ lab.Result }

// figure notes one value, with as many digits as mean something.
func (r *report) figure(name string, v float64, unit, peer, load string) {
	r.Figures = append(r.Figures, lab.Figure{Name: name, Value: math.Round(v*1000) / 1000, Unit: unit, Peer: peer, Fault: load})
}

// ratios notes the median of rounds with its interval, and gives the median.
func (r *report) ratios(name string, values []float64, peer, load string) float64 {
	low, mid, high := medianInterval(values)
	r.figure(name, mid, "ratio", peer, load)
	r.figure(name+"_low95", low, "ratio", peer, load)
	r.figure(name+"_high95", high, "ratio", peer, load)
	return mid
}

// check notes whether a goal is met.
func (r *report) check(name string, passed bool, format string, args ...any) {
	r.Passed = r.Passed && passed
	r.Checks = append(r.Checks, lab.Check{Name: name, Passed: passed, Detail: fmt.Sprintf(format, args...)})
}

// atLeast notes ratios whose median must not be less than goal.
func (r *report) atLeast(goal float64, name string, values []float64, peer, load string) {
	low, _, high := medianInterval(values)
	mid := r.ratios(name, values, peer, load)
	r.check(fmt.Sprintf("%s %s at least %.2f of %s", name, load, goal, peer), mid >= goal,
		"ratio %.3f, 95 %% interval %.3f to %.3f, over %d ABBA rounds", mid, low, high, len(values))
}

// atMost notes ratios whose median must not be more than goal.
func (r *report) atMost(goal float64, name string, values []float64, peer, load string) {
	low, _, high := medianInterval(values)
	mid := r.ratios(name, values, peer, load)
	r.check(fmt.Sprintf("%s %s at most %.2f times %s", name, load, goal, peer), mid <= goal,
		"ratio %.3f, 95 %% interval %.3f to %.3f, over %d ABBA rounds", mid, low, high, len(values))
}

// say tells whoever waits how far it is.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// abba measures a and b in rounds. It gives all samples of each, two a round.
func abba(rounds int, a, b func() (sample, error), show func(round int, a, b sample)) (as, bs []sample, err error) {
	for i := range rounds {
		for _, first := range []bool{true, false, false, true} {
			measure, list := a, &as
			if !first {
				measure, list = b, &bs
			}
			s, err := measure()
			if err != nil {
				return nil, nil, err
			}
			*list = append(*list, s)
		}
		show(i+1, mean(as[2*i:]), mean(bs[2*i:]))
	}
	return as, bs, nil
}

// byRound gives the ratio a/b of each round in what value picks.
func byRound(as, bs []sample, value func(sample) float64) (out []float64) {
	for i := 0; i+1 < len(as); i += 2 {
		out = append(out, (value(as[i])+value(as[i+1]))/(value(bs[i])+value(bs[i+1])))
	}
	return out
}
