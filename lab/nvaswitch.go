package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// nvaRun is one run of the pair's scenario.
type nvaRun struct {
	*nvaLab
	o Options
	r *Result
	c *cluster
	t *traffic
}

// drill is one fault of the scenario, of the appliances or of the control plane.
type drill struct {
	name, about string
	userSpace   bool
	// breaks names the appliances' fault that the drill contains: that one's control run is also the drill's.
	breaks string
	run    func(ctx context.Context, n *nvaRun) error
}

// drills lists what can happen to the pair, in the order it is run.
func drills() []drill {
	all := []drill{{name: "planned", about: "an operator moves the pair to and fro, under probes every millisecond", run: runPlanned}}
	for _, f := range applianceFaults {
		all = append(all, drill{f.name, f.about, f.userSpace, f.name,
			func(ctx context.Context, n *nvaRun) error { return n.runFault(ctx, f) }})
	}
	all = append(all, controlPlaneDrills...)
	// What forwards in user space comes last: it takes a site of its own.
	slices.SortStableFunc(all, func(a, b drill) int { return boolToInt(a.userSpace) - boolToInt(b.userSpace) })
	return all
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// demoFaults are what a run shows by default.
var demoFaults = []string{"planned", "node", "link", "process"}

func chooseDrills(names []string) ([]drill, error) {
	if len(names) == 0 {
		names = demoFaults
	}
	all := drills()
	var known []string
	for _, d := range all {
		known = append(known, d.name)
	}
	for _, name := range names {
		if name != "all" && !slices.Contains(known, name) {
			return nil, refuse("fault", name, "all or one of "+strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(d drill) bool { return !slices.Contains(names, "all") && !slices.Contains(names, d.name) }), nil
}

// settle fills in the options' defaults and refuses what the scenario does not know.
func (o *Options) settle() error {
	set := func(field string, value *string, allowed ...string) error {
		if *value == "" {
			*value = allowed[0]
		}
		if !slices.Contains(allowed, *value) {
			return refuse(field, *value, strings.Join(allowed, " or "))
		}
		return nil
	}
	if o.Rounds < 0 {
		return refuse("rounds", fmt.Sprint(o.Rounds), "at least 1")
	}
	if o.Gone == 0 {
		o.Gone = 20 * time.Second
	}
	return errors.Join(
		set("store", &o.Store, "etcd", "zookeeper"),
		set("effects", &o.Effects, string(api.EffectsFabric), string(api.EffectsLease)),
		set("profile", &o.Profile, string(api.ProfileFast), string(api.ProfileBalanced)),
	)
}

// rounds of one fault.
func (o *Options) rounds(unless int) int {
	if o.Rounds > 0 {
		return o.Rounds
	}
	return unless
}

func runNVASwitch(ctx context.Context, o Options) (r Result, err error) {
	if err := o.settle(); err != nil {
		return r, err
	}
	chosen, err := chooseDrills(o.Faults)
	if err != nil {
		return r, err
	}
	if chosen, err = settleUpgrade(ctx, o, chosen); err != nil {
		return r, err
	}
	for _, userSpace := range []bool{false, true} {
		part := slices.DeleteFunc(slices.Clone(chosen), func(d drill) bool { return d.userSpace != userSpace })
		if len(part) > 0 {
			if err := runSite(ctx, o, part, userSpace, &r); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// runSite builds a site, runs the drills on it with Understudy, the control runs without, and the peers.
func runSite(ctx context.Context, o Options, part []drill, userSpace bool, r *Result) (err error) {
	kind := "the kernel"
	if userSpace {
		kind = "user space"
	}
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, "\nbuilding the site: two appliances that forward in %s, three controllers (%s), effects %s, profile %s\n",
			kind, o.Store, o.Effects, o.Profile)
	}
	l, err := newNVALab(ctx, o, userSpace)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return err
	}
	n := &nvaRun{nvaLab: l, o: o, r: r}
	if err := n.startUnderstudy(ctx); err != nil {
		return err
	}
	defer func() { n.t.close() }()
	for _, d := range part {
		n.say("%s: %s", d.name, d.about)
		if err := d.run(ctx, n); err != nil {
			return fmt.Errorf("fault %s: %w", d.name, err)
		}
	}
	if !o.NoControl {
		if err := n.runControls(ctx, controlsOf(part)); err != nil {
			return fmt.Errorf("control runs: %w", err)
		}
	}
	if err := n.c.stop(ctx); err != nil {
		return err
	}
	faults := faultsOf(part)
	if o.NoPeers || userSpace || len(faults) == 0 {
		return nil
	}
	return n.runPeers(ctx, faults)
}

// faultsOf are the appliances' faults among the drills; the peers can have them too.
func faultsOf(part []drill) []fault {
	return faultsWhere(part, func(d drill) string { return d.name })
}

// controlsOf are the appliances' faults that the drills contain.
func controlsOf(part []drill) []fault {
	return faultsWhere(part, func(d drill) string { return d.breaks })
}

func faultsWhere(part []drill, name func(drill) string) (faults []fault) {
	for _, f := range applianceFaults {
		if slices.ContainsFunc(part, func(d drill) bool { return name(d) == f.name }) {
			faults = append(faults, f)
		}
	}
	return faults
}

// startUnderstudy starts the cluster and the traffic, and waits until everything flows.
func (n *nvaRun) startUnderstudy(ctx context.Context) error {
	begun := time.Now()
	if err := n.startCluster(ctx); err != nil {
		return err
	}
	n.say("understudy is up after %.1f s", time.Since(begun).Seconds())
	return n.startFlows(ctx, 10*time.Millisecond)
}

// startFlows replaces the traffic by one with this interval of the UDP probes.
func (n *nvaRun) startFlows(ctx context.Context, interval time.Duration) error {
	if n.t != nil {
		n.t.close()
	}
	var err error
	if n.t, err = n.startTraffic(siteFlows(interval)); err != nil {
		return err
	}
	return n.t.waitFlowing(ctx, 300*time.Millisecond, 10*time.Second, append(packetKinds, FlowTCP)...)
}

// runFault breaks the active appliance again and again.
func (n *nvaRun) runFault(ctx context.Context, f fault) error {
	var sum tally
	before, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	rounds := n.o.rounds(3)
	for i := range rounds {
		got, victim, err := n.round(ctx, n.t, n.c, f, 20*time.Second)
		if err != nil {
			return err
		}
		sum.add(got)
		if at, ok, err := n.detected(ctx); err != nil {
			return err
		} else if ok {
			sum.detects = append(sum.detects, at.Sub(got.injected))
		}
		n.say("  %d/%d on %s: %s", i+1, rounds, victim, got)
	}
	after, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	moves := int(after.generation - before.generation)
	n.r.Figures = append(n.r.Figures, sum.figures(f.name, "")...)
	n.r.figure(Figure{Name: "false_failovers", Value: float64(moves - rounds), Unit: "count", Fault: f.name})
	n.r.check(f.name+" is survived", sum.dark == 0, "traffic came back in %d of %d rounds", rounds-sum.dark, rounds)
	n.r.check(f.name+" moves once", moves == rounds, "%d moves for %d faults", moves, rounds)
	limit := n.limit(f)
	got := median(sum.outages)
	n.r.check(f.name+" outage", got <= limit, "median %.0f ms, at most %.0f ms allowed (%s effects, profile %s, %s)",
		milliseconds(got), milliseconds(limit), n.o.Effects, n.o.Profile, n.o.Store)
	n.r.check(f.name+" TCP sessions", true, "%s", sessionWords(sum.sessions, rounds, n.t.flows))
	return nil
}

// limit of the median outage. With lease effects the loser's grant must first run out.
func (n *nvaRun) limit(f fault) time.Duration {
	limit := f.limit
	if n.c.profile == api.ProfileBalanced {
		limit += 4 * time.Second // probes every second, three in a row, each up to a second late
	}
	if n.c.effects == api.EffectsLease {
		limit += leaseTTL + leaseMargin
	}
	if n.c.zk != nil {
		limit += 100 * time.Millisecond // its quorum takes longer over a write than the embedded store's
	}
	return limit
}

// sessionWords says plainly whether sessions are kept.
func sessionWords(lost, rounds int, flows []Flow) string {
	total := 0
	for _, f := range flows {
		if f.Kind == FlowTCP {
			total += rounds
		}
	}
	if lost == 0 {
		return fmt.Sprintf("kept by conntrackd, all %d", total)
	}
	return fmt.Sprintf("%d of %d lost", lost, total)
}

// detected is when the controllers were sure of the fault: when the newest failover was decided. The timeline's
// "detect" is earlier: the first probe that was missed.
func (n *nvaRun) detected(ctx context.Context) (time.Time, bool, error) {
	p, err := n.c.place(ctx)
	if err != nil {
		return time.Time{}, false, err
	}
	jobs, err := n.c.jobsOf(p.generation)
	if err != nil {
		return time.Time{}, false, err
	}
	for _, j := range jobs {
		for _, e := range j.Status.Timeline {
			if j.Spec.Kind == api.JobFailover && e.What == "decide" {
				return e.At, true, nil
			}
		}
	}
	return time.Time{}, false, nil
}

// runControls repeats each fault with Understudy stopped: a fault that loses nothing then shows nothing.
func (n *nvaRun) runControls(ctx context.Context, faults []fault) error {
	const must = 5 * time.Second
	for _, f := range faults {
		victim, err := n.c.active(ctx)
		if err != nil {
			return err
		}
		n.c.killControllers()
		got, err := n.measure(ctx, n.t, must+500*time.Millisecond, func() error { return f.inject(ctx, n.nvaLab, victim) })
		if err != nil {
			return err
		}
		if err := f.heal(ctx, n.nvaLab, victim); err != nil {
			return err
		}
		if f.reboots {
			if err := n.c.startOn(ctx, victim); err != nil {
				return err
			}
		}
		if err := n.c.startControllers(ctx); err != nil {
			return err
		}
		if err := n.c.steady(ctx); err != nil {
			return err
		}
		n.say("control run without understudy: %s on %s: %s", f.name, victim, got)
		n.r.figure(Figure{Name: "outage_max", Value: milliseconds(got.outage), Unit: "ms", Peer: "nobody", Fault: f.name})
		n.r.check(f.name+" control run", got.outage > must, "without Understudy %.1f s and more are lost; a fault that loses less counts for nothing",
			got.outage.Seconds())
		if err := n.t.reconnect(); err != nil {
			return err
		}
	}
	return nil
}

// runPeers measures the peers on the same site and the same faults.
func (n *nvaRun) runPeers(ctx context.Context, faults []fault) error {
	for _, peer := range []struct {
		advert time.Duration
		rounds int
	}{{100 * time.Millisecond, n.o.rounds(2)}, {time.Second, n.o.rounds(1)}} {
		k := newKeepalived(n.nvaLab, peer.advert)
		n.say("peer %s", k.name())
		if err := k.start(ctx); err != nil {
			return err
		}
		if err := n.startFlows(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		for _, f := range faults {
			var sum tally
			for i := range peer.rounds {
				got, victim, err := n.round(ctx, n.t, k, f, 8*time.Second)
				if err != nil {
					return err
				}
				sum.add(got)
				n.say("  %s %d/%d on %s: %s", f.name, i+1, peer.rounds, victim, got)
			}
			n.r.Figures = append(n.r.Figures, sum.figures(f.name, k.name())...)
		}
		if err := k.stop(ctx); err != nil {
			return err
		}
	}
	return nil
}
