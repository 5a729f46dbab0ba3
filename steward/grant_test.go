package steward

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
)

// holding is a bench whose agent holds group's address; its promises of an earlier life have run out.
func holding(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.connect(1)
	b.pass(timing.Wait())
	b.want("grant", b.code(b.pushed(5, addresses(group, 1, "10.9.0.1/24"))), "ok")
	if !b.held(group) {
		t.Fatal("the address is not held")
	}
	return b
}

func TestGrantEndsAtHold(t *testing.T) {
	b := holding(t)
	granted := b.core.ticks[len(b.core.ticks)-1].at
	b.step(Closed{1}) // no controller any more
	for b.held(group) {
		b.now = b.now.Add(b.again)
		b.step(Wake{})
	}
	if kept := b.now.Since(granted); kept != timing.Hold() {
		t.Fatalf("kept for %v, want %v after the tick was sent", kept, timing.Hold())
	}
	r := b.core.Report()
	if r.Sections[0].Error != errGrantOver || len(r.Holds) != 0 || len(b.grants.Since) != 0 {
		t.Fatalf("reports %+v, grants %v", r, b.grants)
	}
	b.pass(10 * time.Second)
	if b.held(group) {
		t.Fatal("the address came back by itself")
	}
}

func TestPauseEndsTheGrantWhateverClockStood(t *testing.T) {
	for name, jump := range map[string]clock.Instant{"mono": {Mono: timing.Hold()}, "wall": {Wall: time.Unix(0, 0).Add(timing.Hold())}} {
		b := holding(t)
		b.now.Mono += jump.Mono
		if !jump.Wall.IsZero() {
			b.now.Wall = b.now.Wall.Add(jump.Wall.Sub(time.Unix(0, 0)))
		}
		b.step(Asked{ID: 1, Owner: "x"})
		if b.held(group) {
			t.Errorf("%s: the address is held after a pause", name)
		}
	}
}

func TestEchoesRenew(t *testing.T) {
	b := holding(t)
	for range 20 {
		b.pass(timing.TickEvery())
		b.step(b.core.echo(b, 5, group))
	}
	if !b.held(group) || b.valid[group].Since(b.now) < timing.Hold()-timing.TickEvery() {
		t.Fatalf("held %v, good for %v", b.held(group), b.valid[group].Since(b.now))
	}
	if len(b.asked) > 0 {
		t.Error("candidates were asked though a leader renews")
	}
	for range 20 { // in touch, but the leader does not mean this owner
		b.pass(timing.TickEvery())
		b.step(b.core.echo(b, 5, other))
	}
	if b.held(group) || len(b.asked) > 0 {
		t.Fatalf("held %v, asked %v: a leader in touch that does not renew means it", b.held(group), b.asked)
	}
}

func TestEchoesThatRenewNothing(t *testing.T) {
	for name, change := range map[string]func(*bench, *Echoed){
		"older epoch":   func(_ *bench, e *Echoed) { e.Epoch = 4 },
		"older cluster": func(_ *bench, e *Echoed) { e.Cluster = "0-x" },
		"unproven":      func(_ *bench, e *Echoed) { e.Cluster = "2-x" },
		"another life":  func(_ *bench, e *Echoed) { e.Life = "life0" },
		"no such tick":  func(_ *bench, e *Echoed) { e.Seq += 100 },
	} {
		b := holding(t)
		for range 10 {
			b.pass(timing.TickEvery())
			e := b.core.echo(b, 5, group)
			change(b, &e)
			b.step(e)
		}
		if b.held(group) {
			t.Errorf("%s: still held", name)
		}
	}
}

func TestReleaseIsAnsweredWhenTheAddressIsGone(t *testing.T) {
	b := holding(t)
	b.engineFails = errors.New("busy")
	b.want("kernel refuses", b.code(b.pushed(5, addresses(group, 2))), "failed")
	if !b.core.holder.Holds(b.now, group) {
		t.Fatal("the grant was given back while the address is there")
	}
	b.engineFails = nil
	b.want("release", b.code(b.pushed(5, addresses(group, 2))), "ok")
	if b.held(group) || len(b.core.Report().Holds) != 0 {
		t.Fatalf("reports %+v", b.core.Report())
	}
}

func TestAddressThatWillNotGo(t *testing.T) {
	b := holding(t)
	b.engineFails = errors.New("busy")
	b.pass(timing.Hold())
	if got := b.core.Report().Holds; len(got) != 1 {
		t.Fatalf("the address is still there, but holds says %v", got)
	}
	b.engineFails = nil
	b.pass(2 * redropEvery)
	if b.held(group) || len(b.core.Report().Holds) != 0 {
		t.Fatalf("reports %+v", b.core.Report())
	}
}

func TestPromisesKeepTheGrantWithoutControllers(t *testing.T) {
	b := holding(t)
	b.step(b.core.echo(b, 5, group)) // a leader was in touch until now
	b.step(Closed{1})
	promise := func(refuses string) {
		for _, a := range b.asked {
			if a.Candidate != refuses {
				b.step(Answered{Round: a.Round, Owner: a.Owner, Candidate: a.Candidate, Promised: true})
			}
		}
		b.asked = nil
	}
	for range 100 {
		b.pass(100 * time.Millisecond)
		promise("")
	}
	if !b.held(group) {
		t.Fatal("dropped though every candidate promised")
	}
	b.pass(timing.Hold() / 2)
	stale := b.asked
	for range 30 {
		b.pass(100 * time.Millisecond)
		promise("c")
	}
	if b.held(group) {
		t.Fatal("kept though one candidate did not promise")
	}
	for _, a := range stale {
		b.step(Answered{Round: a.Round, Owner: a.Owner, Candidate: a.Candidate, Promised: true})
	}
	if b.core.holder.Holds(b.now, group) {
		t.Fatal("late promises brought the grant back")
	}
}

func TestUnknownCandidatesPromiseNothing(t *testing.T) {
	for name, candidates := range map[string]map[string]string{"none": nil, "one without an address": {"b": "10.0.0.2:9444", "c": ""}} {
		b := newBench(t)
		b.connect(1)
		b.pass(timing.Wait())
		s := addresses(group, 1, "10.9.0.1/24")
		s.Addresses.Candidates = candidates
		b.want("grant", b.code(b.pushed(5, s)), "ok")
		b.step(Closed{1})
		for range 30 {
			b.pass(100 * time.Millisecond)
			for _, a := range b.asked {
				b.step(Answered{Round: a.Round, Owner: a.Owner, Candidate: a.Candidate, Promised: true})
			}
		}
		if b.held(group) {
			t.Errorf("%s: kept", name)
		}
	}
}

func TestPromiseKeepsGrantsAway(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.want("a new life may have promised", b.code(b.pushed(5, addresses(group, 1, "10.9.0.1/24"))), "wait")
	b.pass(timing.Wait())
	b.step(Asked{ID: 7, Owner: group, Node: "default/b"})
	if len(b.answers) != 1 || !b.answers[0].Promised {
		t.Fatalf("answered %+v", b.answers)
	}
	b.want("promised", b.code(b.pushed(5, addresses(group, 1, "10.9.0.1/24"))), "wait")
	b.pass(timing.Wait())
	b.want("the promise is over", b.code(b.pushed(5, addresses(group, 1, "10.9.0.1/24"))), "ok")
	b.step(Asked{ID: 8, Owner: group, Node: "default/b"})
	if b.answers[1].Promised || b.answers[1].ID != 8 {
		t.Fatalf("promised while holding: %+v", b.answers[1])
	}
	b.step(b.core.echo(b, 5))
	b.step(Asked{ID: 9, Owner: other, Node: "default/b"})
	if b.answers[2].Promised {
		t.Fatal("promised while a leader is in touch")
	}
}

func TestGrantThatTheDiskHeldTooLong(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.pass(timing.Wait())
	b.diskHangs = true
	p := b.pushed(5, addresses(group, 1, "10.9.0.1/24"))
	b.step(p)
	b.pass(timing.Hold())
	b.diskHangs = false
	b.step(Stored{N: b.hung[0].N})
	b.want("answer", b.answerTo(p.ID), "stale-tick")
	if b.held(group) || len(b.core.Report().Holds) != 0 {
		t.Fatal("held")
	}
}

func TestRefusedGrantIsGivenBack(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.pass(timing.Wait())
	b.diskFails = errors.New("no space")
	b.want("answer", b.code(b.pushed(5, addresses(group, 1, "10.9.0.1/24"))), "failed")
	if len(b.core.Report().Holds) != 0 {
		t.Fatal("the grant of a push that failed is held")
	}
}

func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*bench)
		held   bool
	}{
		{"at once", func(*bench) {}, true},
		{"after the hold", func(b *bench) { b.now = b.now.Add(timing.Hold()) }, false},
		{"after a boot", func(b *bench) { b.boot = "boot2" }, false},
		{"without the grants", func(b *bench) { b.grants = Grants{} }, false},
	} {
		b := holding(t)
		b.want("routes", b.code(b.pushed(5, routes(group, 1, "10.0.0.4"))), "ok")
		b.engines = map[string]api.Section{}
		b.log = nil
		c.change(b)
		b.start()
		b.want(c.name+": routes", b.via(), "10.0.0.4")
		if b.held(group) != c.held {
			t.Errorf("%s: held %v", c.name, b.held(group))
		}
		if !slices.Contains(b.log[len(b.log)-3:], "sweep routes true") {
			t.Errorf("%s: no sweep at the end of %v", c.name, b.log)
		}
		b.connect(1)
		b.pass(100 * time.Millisecond)
		b.want(c.name+": an older epoch", b.code(b.pushed(4, routes(group, 2, "10.0.0.5"))), "old-epoch")
	}
}

func TestPromisesOfAnEarlierRoundDoNotCountLater(t *testing.T) {
	b := holding(t)
	b.step(Closed{1})
	b.pass(timing.Hold()/2 + timing.TickEvery())
	first := b.asked[0].Round
	if last := b.asked[len(b.asked)-1].Round; last == first {
		t.Fatalf("only one round: %v", b.asked)
	}
	for _, a := range b.asked {
		if a.Round == first {
			b.step(Answered{Round: a.Round, Owner: a.Owner, Candidate: a.Candidate, Promised: true})
		}
	}
	b.pass(timing.Hold() / 2)
	if b.held(group) {
		t.Fatal("old promises renewed the grant")
	}
}

func TestAnswersToOlderWishesAreIgnored(t *testing.T) {
	b := holding(t)
	old := b.core.applies
	b.want("routes", b.code(b.pushed(5, routes(group, 1, "10.0.0.4"))), "ok")
	b.step(Applied{N: old, Engine: api.EngineRoutes, Owner: group, Err: errors.New("late")})
	if s := b.core.Report().Sections[1]; s.Error != "" {
		t.Fatalf("reports %+v", s)
	}
	b.pass(timing.Hold())
	b.step(Applied{N: old, Engine: api.EngineAddresses, Owner: group}) // as if it had been under way when the grant ended
	if s := b.core.Report().Sections[0]; s.Error != errGrantOver {
		t.Fatalf("reports %+v", s)
	}
}

func TestBackstopFollowsTheGrantClosely(t *testing.T) {
	for _, late := range []time.Duration{0, 3 * time.Millisecond} { // every step comes so much too late
		b := holding(t)
		end := b.core.ticks[len(b.core.ticks)-1].at.Add(timing.Hold())
		b.step(Closed{1})
		steps := 0
		for b.held(group) {
			if b.kernelEnd.Before(b.now) && end.Since(b.now) > 100*time.Millisecond {
				t.Fatalf("%v before the grant's end the kernel ended the address by itself", end.Since(b.now))
			}
			if end.Before(b.kernelEnd) {
				t.Fatalf("a dead agent's address would outlive its grant by %v", b.kernelEnd.Since(end))
			}
			b.now = b.now.Add(b.again + late)
			b.step(Wake{})
			steps++
		}
		if gap := end.Since(b.kernelEnd); gap > 2*early {
			t.Errorf("late by %v: the kernel would end the address %v before the grant", late, gap)
		}
		if steps > 40 {
			t.Errorf("%d steps in one grant", steps)
		}
	}
}

func TestShortGrantsAreNotStretched(t *testing.T) {
	now := clock.Instant{Mono: time.Hour, Wall: time.Unix(1e9, 0)}
	short := lead.Timing{TTL: 900 * time.Millisecond, Margin: 100 * time.Millisecond}
	c, _ := New(Config{Timing: short, Life: "l", Boot: "b"}, now, &State{Version: StateVersion, Sections: map[string]Kept{
		lead.SectionKey(api.EngineAddresses, group): {Section: addresses(group, 1, "10.9.0.1/24")},
	}}, Grants{Boot: "b", Since: map[string]clock.Instant{group: now}})
	for range 20 {
		now = now.Add(30 * time.Millisecond)
		effects, _ := c.Step(now, Wake{})
		for _, e := range effects {
			if _, ok := e.(Renew); ok {
				t.Fatal("renewed without a reason: the kernel would count another whole second")
			}
		}
	}
}

// An agent that was stopped between a push and its engine's answer, for longer than the grant, once waited for that answer for ever.
func TestPushWhoseGrantEndsBeforeTheAnswer(t *testing.T) {
	for name, section := range map[string]api.Section{"grant": addresses(group, 2, "10.9.0.1/24"), "release": addresses(group, 2)} {
		b := holding(t)
		b.engineTakes = timing.Hold()
		b.want(name, b.code(b.pushed(5, section)), "failed")
		if b.held(group) {
			t.Errorf("%s: held", name)
		}
		b.engineTakes = 0
		b.pass(time.Second)
		b.want("the next push", b.code(b.pushed(5, addresses(group, 3, "10.9.0.1/24"))), "ok")
	}
}
