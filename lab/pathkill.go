package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// pathFault is something that happens to the data path.
type pathFault struct {
	name, about string
	// kill kills -9 and returns what is down then; nil for an outage.
	kill func(ctx context.Context, l *pathLab) ([]string, error)
	// outage is one that nobody dies of.
	outage func(l *pathLab, o Options) pathOutage
	// run does all of it; for what does not fit.
	run func(ctx context.Context, l *pathLab, r *Result) error
}

func pathFaults() []pathFault {
	return []pathFault{
		{name: "protect", about: "kill -9 of the capture with its sender", kill: kills(roleProtect)},
		{name: "process-server", about: "kill -9 of the process server", kill: kills(rolePS)},
		{name: "spool", about: "kill -9 of the process server, and its spool is deleted", kill: killWithSpool(rolePS)},
		{name: "both", about: "kill -9 of the capture and the process server, and the spool is deleted", kill: killWithSpool(roleProtect, rolePS)},
		{name: "object-server", about: "kill -9 of the object server", kill: kills(roleStore)},
		{name: "keeper", about: "kill -9 of what prunes and compacts the vault", kill: kills(roleKeeper)},
		{name: "before-head", about: "kill -9 of the process server between a segment and its head", kill: killAtHead(rolePS, false)},
		{name: "after-head", about: "kill -9 of the process server when a head is swapped, before it knows", kill: killAtHead(rolePS, true)},
		{name: "keeper-before-head", about: "kill -9 of the keeper before it swaps a head", kill: killAtHead(roleKeeper, false)},
		{name: "keeper-after-head", about: "kill -9 of the keeper when a head is swapped, before it knows", kill: killAtHead(roleKeeper, true)},
		{name: "link", about: "the process server stands still and says nothing", outage: stopProcessServer},
		{name: "vault-link", about: "nothing comes through to the object server, and nothing is refused", outage: shutVault},
		{name: "full-" + placeSpool, about: "no room for the spool", outage: fills(placeSpool)},
		{name: "full-" + placeCapture, about: "no room for the capture's bitmaps and logs", outage: fills(placeCapture)},
		{name: "full-" + placeVault, about: "no room for the vault", outage: fills(placeVault)},
		{name: "full-" + placeSite, about: "no room for a recovered machine's disks: it waits, and goes on", run: fillSite},
	}
}

// choosePathFaults takes those that are named; all by default.
func choosePathFaults(names []string) (chosen []pathFault, err error) {
	all := pathFaults()
	var known []string
	for _, f := range all {
		known = append(known, f.name)
		if len(names) == 0 || slices.Contains(names, f.name) || slices.Contains(names, "all") {
			chosen = append(chosen, f)
		}
	}
	for _, n := range names {
		if n != "all" && !slices.Contains(known, n) {
			return nil, refuse("fault", n, "all or one of "+strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

func kills(roles ...string) func(context.Context, *pathLab) ([]string, error) {
	return func(_ context.Context, l *pathLab) ([]string, error) {
		for _, role := range roles {
			l.procs[role].kill()
		}
		return roles, nil
	}
}

func killWithSpool(roles ...string) func(context.Context, *pathLab) ([]string, error) {
	return func(ctx context.Context, l *pathLab) ([]string, error) {
		down, _ := kills(roles...)(ctx, l)
		return down, l.m.clear(l.full()[placeSpool])
	}
}

// killAtHead kills a role when it swaps a head, or when ctx ends.
func killAtHead(role string, after bool) func(context.Context, *pathLab) ([]string, error) {
	return func(ctx context.Context, l *pathLab) ([]string, error) {
		if role == roleKeeper {
			_ = l.homes[roleKeeper].Set(ctx) // looks at the vault at once
		}
		if l.doors[role].catch(ctx, trap{match: swapsHead, after: after, act: l.procs[role].kill}) {
			l.atHead++
		}
		return kills(role)(ctx, l)
	}
}

// runPathKill runs the data path under load and kills its processes, one after the other and two at a time; then it cuts its
// lines and fills its disks. What was answered must be there, what is offered must be true, and nobody may notice at the source.
func runPathKill(ctx context.Context, o Options) (r Result, err error) {
	chosen, err := choosePathFaults(o.Faults)
	if err != nil {
		return r, err
	}
	if o.Rounds < 0 {
		return r, refuse("rounds", fmt.Sprint(o.Rounds), "at least 1")
	}
	l, err := newPathLab(o)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := l.begin(ctx); err != nil {
		return r, err
	}
	k := &pathRun{pathLab: l, o: o, r: &r, rng: rand.New(rand.NewPCG(uint64(began.UnixNano()), 1)), kills: map[string]int{}}
	for _, f := range chosen {
		if f.kill != nil {
			k.deck = append(k.deck, f)
		}
	}
	if err := k.killing(ctx); err != nil {
		return r, k.report(began, err)
	}
	for _, f := range chosen {
		if f.kill != nil {
			continue
		}
		if err := k.outage(ctx, f); err != nil {
			return r, k.report(began, err)
		}
	}
	return r, k.report(began, k.last(ctx))
}

// begin starts every process and the load, and waits until the machine is protected.
func (l *pathLab) begin(ctx context.Context) error {
	if err := l.startRoles(ctx, roleStore, rolePS, roleProtect, roleKeeper); err != nil {
		return err
	}
	l.load = startLoad(ctx, l.h, string(l.homes[roleProtect])+"/disk.sock")
	l.watch = startWatch(ctx, l)
	began := time.Now()
	if err := l.whole(ctx); err != nil {
		return fmt.Errorf("%w\nprotect: %s\nprocess server: %s", err, l.tail(roleProtect), l.tail(rolePS))
	}
	l.say("protected after %.1f s", time.Since(began).Seconds())
	return nil
}

func (l *pathLab) startRoles(ctx context.Context, roles ...string) error {
	for _, role := range roles {
		if err := l.start(role); err != nil {
			return err
		}
		if role == roleStore && !waitFor(ctx, 30*time.Second, l.storeAnswers) {
			return fmt.Errorf("the object server does not answer: %s", l.tail(roleStore))
		}
	}
	return nil
}

func (l *pathLab) storeAnswers() bool {
	a, err := http.Get("http://" + l.store)
	if err == nil {
		_ = a.Body.Close()
		return true
	}
	var refused *net.OpError
	return !errors.As(err, &refused)
}

// pathRun is one run of the scenario.
type pathRun struct {
	*pathLab
	o     Options
	r     *Result
	rng   *rand.Rand
	deck  []pathFault
	hand  []pathFault // of the deck, still to be played
	kills map[string]int

	survived, compared, opened int
	wrong                      []string // what the images say
}

func (k *pathRun) between(least, most time.Duration) time.Duration {
	return least + time.Duration(k.rng.Int64N(int64(most-least)))
}

// draw takes one of the deck, each as often as any other.
func (k *pathRun) draw() pathFault {
	if len(k.hand) == 0 {
		k.hand = slices.Clone(k.deck)
		k.rng.Shuffle(len(k.hand), func(i, j int) { k.hand[i], k.hand[j] = k.hand[j], k.hand[i] })
	}
	f := k.hand[0]
	k.hand = k.hand[1:]
	return f
}

// killing kills, round by round.
func (k *pathRun) killing(ctx context.Context) error {
	if len(k.deck) == 0 {
		return nil
	}
	rounds, until := k.o.rounds(20), time.Now().Add(365*24*time.Hour)
	if k.o.Duration > 0 {
		until = time.Now().Add(k.o.Duration)
	}
	report := time.Now()
	for i := 0; i < rounds && time.Now().Before(until); i++ {
		if err := k.round(ctx, i); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		k.survived++
		if time.Since(report) > 10*time.Second || i == rounds-1 {
			k.say("  %d of %d rounds, %d writes, %d comparisons, %d points opened", i+1, rounds, k.h.writes(), k.compared, k.opened)
			report = time.Now()
		}
	}
	return nil
}

// round kills one, or one and then another while it is down, and lets them come up again; sometimes before everything is well.
func (k *pathRun) round(ctx context.Context, i int) error {
	if err := sleep(ctx, k.between(50*time.Millisecond, 800*time.Millisecond)); err != nil {
		return err
	}
	for role, p := range k.procs {
		if !p.alive() {
			return fmt.Errorf("%s ended by itself: %w\n%s", role, p.err, k.tail(role))
		}
	}
	down := map[string]bool{}
	for n := 0; n == 0 || n == 1 && k.rng.IntN(4) == 0; n++ {
		f := k.draw()
		limited, cancel := context.WithTimeout(ctx, []time.Duration{5 * time.Second, time.Second}[n])
		roles, err := f.kill(limited, k.pathLab)
		if cancel(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		k.kills[f.name]++
		for _, role := range roles {
			down[role] = true
		}
		if err := sleep(ctx, k.between(20*time.Millisecond, 500*time.Millisecond)); err != nil {
			return err
		}
	}
	if down[roleProtect] {
		if err := k.onDisk(); err != nil {
			return k.found(fmt.Errorf("on the protected disk after kill -9: %w", err))
		}
	}
	for role := range down {
		if err := k.start(role); err != nil {
			return err
		}
	}
	if k.rng.IntN(3) > 0 {
		if err := k.whole(ctx); err != nil {
			return err
		}
	}
	if !k.procs[roleStore].alive() {
		return errors.New("the object server ended by itself")
	}
	if k.rng.IntN(2) == 0 {
		if err := k.point(ctx); err != nil {
			return err
		}
	}
	if i%10 == 9 {
		return k.same(ctx, fmt.Sprintf("round-%d", i+1))
	}
	return nil
}

// found notes what an image says.
func (k *pathRun) found(err error) error {
	if errors.Is(err, errImage) {
		k.wrong = append(k.wrong, err.Error())
	}
	return err
}

func (k *pathRun) point(ctx context.Context) error {
	if !waitFor(ctx, 30*time.Second, k.storeAnswers) {
		return fmt.Errorf("the object server does not answer: %s", k.tail(roleStore))
	}
	opened, err := k.openPoint(ctx, k.rng)
	if opened {
		k.opened++
	}
	return k.found(err)
}

func (k *pathRun) same(ctx context.Context, name string) error {
	err := k.compare(ctx, name)
	if err == nil {
		k.compared++
	}
	return k.found(err)
}

// last compares at the end, and opens every kept point, up to 20.
func (k *pathRun) last(ctx context.Context) error {
	if err := k.same(ctx, "end"); err != nil {
		return err
	}
	for range min(20, len(k.watch.newest())) {
		if err := k.point(ctx); err != nil {
			return err
		}
	}
	return nil
}
