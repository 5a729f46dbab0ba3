package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"
)

// runNVABench measures Understudy and keepalived on one site in interleaved rounds, ABBA: each round has two measurements of each,
// in mirrored order, so that a drift of the machine's speed falls on both. The ratio of a round is Understudy's mean outage
// over keepalived's; the result is the median of the ratios with its 95 % interval.
func runNVABench(ctx context.Context, o Options) (r Result, err error) {
	if err := o.settle(); err != nil {
		return r, err
	}
	if len(o.Faults) == 0 {
		o.Faults = []string{"node"}
	}
	chosen, err := chooseDrills(o.Faults)
	if err != nil {
		return r, err
	}
	faults := faultsOf(chosen)
	if len(faults) == 0 || len(faults) != len(chosen) || slices.ContainsFunc(chosen, func(d drill) bool { return d.userSpace }) {
		return r, refuse("fault", fmt.Sprint(o.Faults), "node or link: faults that the peer can see too")
	}
	l, err := newNVALab(ctx, o, false)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return r, err
	}
	n := &nvaRun{nvaLab: l, o: o, r: &r}
	defer func() {
		if n.t != nil {
			n.t.close()
		}
	}()
	const advert = 100 * time.Millisecond
	us := func() contender { return newCluster(l, o) }
	peer := func() contender { return newKeepalived(l, advert) }
	for _, f := range faults {
		ours, theirs, ratios := tally{}, tally{}, []float64{}
		rounds := o.rounds(9)
		for i := range rounds {
			var a, b time.Duration
			for _, mine := range []bool{true, false, false, true} {
				make, sum, total := us, &ours, &a
				if !mine {
					make, sum, total = peer, &theirs, &b
				}
				got, err := n.benchOnce(ctx, make(), f)
				if err != nil {
					return r, err
				}
				sum.add(got)
				*total += got.outage
			}
			ratios = append(ratios, float64(a)/float64(b))
			n.say("  %s round %d/%d: %.0f ms beside %.0f ms, ratio %.3f", f.name, i+1, rounds, milliseconds(a/2), milliseconds(b/2), ratios[i])
		}
		name := newKeepalived(l, advert).name()
		r.Figures = append(r.Figures, ours.figures(f.name, "")...)
		r.Figures = append(r.Figures, theirs.figures(f.name, name)...)
		low, mid, high := medianInterval(ratios)
		round := func(x float64) float64 { return math.Round(x*1000) / 1000 }
		for _, v := range []Figure{{Name: "ratio_p50", Value: round(mid)}, {Name: "ratio_low95", Value: round(low)}, {Name: "ratio_high95", Value: round(high)}} {
			v.Unit, v.Peer, v.Fault = "ratio", name, f.name
			r.figure(v)
		}
		r.check(f.name+" beats "+name, high < 1, "outage ratio %.3f, 95 %% interval %.3f to %.3f, over %d ABBA rounds", mid, low, high, rounds)
	}
	return r, nil
}

// benchOnce starts a contender on the bare site, breaks its active appliance once, and stops it.
func (n *nvaRun) benchOnce(ctx context.Context, c contender, f fault) (outcome, error) {
	defer os.RemoveAll(n.run.scratch()) // a cluster's state; the next one is a new cluster
	if err := c.start(ctx); err != nil {
		return outcome{}, fmt.Errorf("start %s: %w", c.name(), err)
	}
	if err := n.startFlows(ctx, 10*time.Millisecond); err != nil {
		return outcome{}, err
	}
	got, _, err := n.round(ctx, n.t, c, f, 20*time.Second)
	return got, errors.Join(err, c.stop(ctx))
}
