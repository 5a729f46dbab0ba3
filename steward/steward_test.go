package steward

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/lead"
)

var timing = lead.Timing{TTL: 3 * time.Second, Margin: 400 * time.Millisecond} // the hold is no multiple of the tick

const (
	group = "ApplianceGroup/default/dmz"
	other = "ApplianceGroup/default/other"
)

// bench is an agent on a host made of maps.
type bench struct {
	t    *testing.T
	core *Core
	now  clock.Instant
	life int
	boot string

	disk    *State
	grants  Grants
	engines map[string]api.Section // what the kernel has, by section key
	applied map[string]bool        // in this life
	valid   map[string]clock.Instant
	sent    []string // to controllers, as text
	asked   []Ask
	answers []Answer
	log     []string

	kernelEnd clock.Instant // when the kernel itself ends the address, if nobody renews it

	diskFails, engineFails error
	diskHangs              bool
	engineTakes            time.Duration // from the wish to the answer
	hung                   []Store
	pushes                 uint64
	again                  time.Duration
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, boot: "boot1", engines: map[string]api.Section{}, valid: map[string]clock.Instant{}}
	b.now = clock.Instant{Mono: time.Hour, Wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	b.start()
	return b
}

// start begins a life, and lets a promise that an earlier life may have given run out.
func (b *bench) start() {
	b.life++
	b.applied = map[string]bool{}
	var effects []Effect
	b.core, effects = New(Config{Timing: timing, Life: b.name(), Boot: b.boot}, b.now, b.disk, b.grants)
	b.perform(effects)
}

func (b *bench) name() string { return fmt.Sprint("life", b.life) }

func (b *bench) step(ev Event) {
	b.t.Helper()
	effects, again := b.core.Step(b.now, ev)
	b.again = again
	b.perform(effects)
}

func (b *bench) pass(d time.Duration) {
	b.t.Helper()
	for end := b.now.Add(d); b.now.Before(end); {
		b.now = b.now.Add(min(50*time.Millisecond, end.Since(b.now)))
		b.step(Wake{})
	}
}

func (b *bench) perform(effects []Effect) {
	b.t.Helper()
	for _, e := range effects {
		if b.perform1(e); b.t.Failed() {
			b.t.FailNow()
		}
	}
}

func (b *bench) perform1(e Effect) {
	b.log = append(b.log, fmt.Sprintf("%T", e))
	switch e := e.(type) {
	case SendTick:
		b.sent = append(b.sent, fmt.Sprintf("%d tick %d", e.Session, e.Seq))
	case SendApplied:
		b.sent = append(b.sent, fmt.Sprintf("%d applied %d %s", e.Session, e.Push, e.Code))
	case SendReport:
		b.sent = append(b.sent, fmt.Sprintf("%d report holds %v", e.Session, e.Holds))
	case SendHello:
		b.sent = append(b.sent, fmt.Sprintf("%d hello", e.Session))
	case Store:
		b.store(e)
	case StoreGrants:
		b.grants = e.Grants
	case Apply:
		b.apply(e)
	case Renew:
		b.valid[e.Owner] = b.now.Add(e.Valid)
		b.kernelEnd = b.now.Add(e.Valid.Truncate(time.Second))
	case Drop:
		if b.engineFails == nil {
			delete(b.engines, lead.SectionKey(api.EngineAddresses, e.Owner))
		}
		b.step(Dropped{Owner: e.Owner, Err: b.engineFails})
	case Sweep:
		b.log = append(b.log, fmt.Sprintf("sweep routes %v", e.Routes))
		for key, s := range b.engines {
			if s.Engine == api.EngineAddresses && !b.applied[key] {
				delete(b.engines, key)
			}
		}
	case Ask:
		b.asked = append(b.asked, e)
	case Answer:
		b.answers = append(b.answers, e)
	}
}

func (b *bench) store(e Store) {
	if b.diskHangs {
		b.hung = append(b.hung, e)
		return
	}
	if b.diskFails == nil {
		b.disk = &e.State
	}
	b.step(Stored{N: e.N, Err: b.diskFails})
}

func (b *bench) apply(e Apply) {
	key := lead.SectionKey(e.Section.Engine, e.Section.Owner)
	if b.disk == nil || !reflect.DeepEqual(b.disk.Sections[key].Section, e.Section) {
		b.t.Errorf("%s is applied before it is on disk", key)
	}
	if holdsAny(e.Section) && (e.Valid <= 0 || e.Valid > timing.Hold()) {
		b.t.Errorf("%s may be held for %v", key, e.Valid)
	}
	if b.engineFails == nil {
		b.engines[key], b.applied[key] = e.Section, true
		b.valid[e.Section.Owner] = b.now.Add(e.Valid)
		b.kernelEnd = b.now.Add(e.Valid.Truncate(time.Second))
	}
	b.now = b.now.Add(b.engineTakes)
	b.step(Applied{N: e.N, Engine: e.Section.Engine, Owner: e.Section.Owner, Err: b.engineFails})
}

// connect opens session id to a controller of cluster 1-x.
func (b *bench) connect(id uint64) {
	b.step(Opened{id})
	b.step(Welcomed{Session: id, Cluster: "1-x", Proven: true})
}

func routes(owner string, generation int64, via string) api.Section {
	return api.Section{Engine: api.EngineRoutes, Owner: owner, Generation: generation,
		Routes: &api.RoutesConfig{Routes: []api.KernelRoute{{Prefix: "10.0.0.0/8", Via: via}}}}
}

func addresses(owner string, generation int64, list ...string) api.Section {
	c := &api.AddressesConfig{Candidates: map[string]string{"b": "10.0.0.2:9444", "c": "10.0.0.3:9444"}}
	for _, a := range list {
		c.Addresses = append(c.Addresses, api.HeldAddress{Address: a, Link: "eth0"})
	}
	return api.Section{Engine: api.EngineAddresses, Owner: owner, Generation: generation, Addresses: c}
}

// pushed makes a push with the newest tick.
func (b *bench) pushed(epoch int64, sections ...api.Section) Pushed {
	b.pushes++
	return Pushed{Session: 1, ID: b.pushes, Token: api.Token{ClusterID: "1-x", Epoch: epoch, Generation: sections[0].Generation}, Life: b.name(), Tick: b.core.seq, Sections: sections}
}

// code pushes and gives the answer; "" if there is none yet.
func (b *bench) code(p Pushed) string {
	b.t.Helper()
	b.step(p)
	return b.answerTo(p.ID)
}

func (b *bench) answerTo(push uint64) string {
	for _, s := range b.sent {
		if rest, ok := strings.CutPrefix(s, fmt.Sprintf("1 applied %d ", push)); ok {
			return rest
		}
	}
	return ""
}

func (b *bench) want(what, got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func (b *bench) via() string {
	s, ok := b.engines[lead.SectionKey(api.EngineRoutes, group)]
	if !ok {
		return ""
	}
	return s.Routes.Routes[0].Via
}

func (b *bench) held(owner string) bool {
	return holdsAny(b.engines[lead.SectionKey(api.EngineAddresses, owner)])
}

func (c *Core) echo(b *bench, epoch int64, renews ...string) Echoed {
	return Echoed{Session: 1, Life: b.name(), Seq: c.seq, Cluster: "1-x", Epoch: epoch, Renews: renews}
}

func TestPushIsStoredThenAppliedThenAnswered(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.log = nil
	b.want("push", b.code(b.pushed(5, routes(group, 1, "10.0.0.4"))), "ok")
	b.want("order", strings.Join(b.log[:2], " "), "steward.Store steward.Apply")
	b.want("kernel", b.via(), "10.0.0.4")
	got := b.core.Report().Sections[0].Applied
	if got != (api.Token{ClusterID: "1-x", Epoch: 5, Generation: 1}) {
		t.Fatalf("reports %+v", got)
	}
	b.log = nil
	again := b.pushed(5, routes(group, 1, "10.0.0.4"))
	b.want("again", b.code(again), "ok")
	if slices.Contains(b.log, "steward.Store") {
		t.Error("the same push was stored twice")
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*bench, *Pushed)
	}{
		{"old epoch", "old-epoch", func(_ *bench, p *Pushed) { p.Token.Epoch = 4 }},
		{"old generation", "old-generation", func(_ *bench, p *Pushed) { p.Sections[0].Generation = 1 }},
		{"old cluster", "old-cluster", func(_ *bench, p *Pushed) { p.Token.ClusterID = "0-x" }},
		{"unproven cluster", "unproven", func(_ *bench, p *Pushed) { p.Token.ClusterID = "2-x" }},
		{"another life", "stale-tick", func(_ *bench, p *Pushed) { p.Life = "life0" }},
		{"a tick never sent", "stale-tick", func(_ *bench, p *Pushed) { p.Tick = 1000 }},
		{"paused for the hold", "stale-tick", func(b *bench, _ *Pushed) { b.pass(timing.Hold()) }},
		{"paused, seen by the wall alone", "stale-tick", func(b *bench, _ *Pushed) { b.now.Wall = b.now.Wall.Add(timing.Hold()) }},
		{"no owner", "invalid", func(_ *bench, p *Pushed) { p.Sections[0].Owner = "" }},
		{"unknown engine", "invalid", func(_ *bench, p *Pushed) { p.Sections[0].Engine = "magic" }},
		{"two payloads", "invalid", func(_ *bench, p *Pushed) { p.Sections[0].Role = &api.RoleConfig{} }},
		{"wrong payload", "invalid", func(_ *bench, p *Pushed) { p.Sections[0].Engine = api.EngineRole }},
		{"malformed", "invalid", func(_ *bench, p *Pushed) { p.Malformed = "unexpected end" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.connect(1)
			b.want("first", b.code(b.pushed(5, routes(group, 2, "10.0.0.4"))), "ok")
			before := *b.disk
			p := b.pushed(5, routes(group, 3, "10.0.0.5"))
			c.change(b, &p)
			b.want("answer", b.code(p), c.want)
			b.want("kernel", b.via(), "10.0.0.4")
			if !reflect.DeepEqual(*b.disk, before) {
				t.Error("a refused push changed the disk")
			}
		})
	}
}

func TestNewClusterNeedsProof(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.want("first", b.code(b.pushed(5, routes(group, 9, "10.0.0.4"))), "ok")
	p := b.pushed(1, routes(group, 1, "10.0.0.5"))
	p.Token.ClusterID = "2-y"
	b.step(Welcomed{Session: 1, Cluster: "2-y", Proven: false})
	b.want("unproven", b.code(p), "unproven")
	b.step(Welcomed{Session: 1, Cluster: "2-y", Proven: true})
	b.want("a restored cluster starts anew", b.code(Pushed{Session: 1, ID: 77, Token: p.Token, Life: p.Life, Tick: p.Tick, Sections: p.Sections}), "ok")
	b.want("kernel", b.via(), "10.0.0.5")
}

func TestDiskFails(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.want("first", b.code(b.pushed(5, routes(group, 1, "10.0.0.4"))), "ok")
	b.diskFails = errors.New("no space")
	b.want("full disk", b.code(b.pushed(5, routes(group, 2, "10.0.0.5"))), "failed")
	b.want("kernel", b.via(), "10.0.0.4")
	b.diskFails = nil
	b.want("space again", b.code(b.pushed(5, routes(group, 2, "10.0.0.5"))), "ok")
}

func TestPushThatTheDiskHeldTooLong(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.want("first", b.code(b.pushed(5, routes(group, 1, "10.0.0.4"))), "ok")
	b.diskHangs = true
	p, q := b.pushed(5, routes(group, 2, "10.0.0.5")), b.pushed(5, routes(other, 1, "10.0.0.5"))
	b.want("on its way", b.code(p), "")
	b.want("behind it", b.code(q), "")
	b.pass(timing.Hold())
	b.disk = &b.hung[0].State
	b.diskHangs = false
	b.step(Stored{N: b.hung[0].N})
	b.want("late", b.answerTo(p.ID), "stale-tick")
	b.want("behind it", b.answerTo(q.ID), "stale-tick")
	b.want("kernel", b.via(), "10.0.0.4")
	b.start()
	b.want("kernel after a restart", b.via(), "10.0.0.4")
}

func TestQueueIsBounded(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.diskHangs = true
	for range maxQueue {
		b.want("queued", b.code(b.pushed(5, routes(group, 1, "10.0.0.4"))), "")
	}
	b.want("one too many", b.code(b.pushed(5, routes(group, 1, "10.0.0.4"))), "failed")
}

func TestEngineFailsAndIsTriedAgain(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.engineFails = errors.New("network is unreachable")
	b.want("push", b.code(b.pushed(5, routes(group, 1, "10.0.0.4"))), "failed")
	if s := b.core.Report().Sections[0]; s.Error != "network is unreachable" || s.Applied != (api.Token{}) {
		t.Fatalf("reports %+v", s)
	}
	b.engineFails = nil
	b.pass(retryEvery)
	b.want("kernel", b.via(), "10.0.0.4")
	if s := b.core.Report().Sections[0]; s.Error != "" || s.Applied.Generation != 1 {
		t.Fatalf("reports %+v", s)
	}
	b.step(Repaired{Engine: api.EngineRoutes, Owner: group, Count: 2})
	if s := b.core.Report().Sections[0]; s.Repaired != 2 || b.sent[len(b.sent)-1] != "1 report holds []" {
		t.Fatalf("reports %+v, sent %v", s, b.sent)
	}
}

// TestAReportDuringTheHelloIsNotLost: a controller whose welcome is under way learns what changed since the hello.
func TestAReportDuringTheHelloIsNotLost(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.step(Opened{2})
	b.step(Opened{3})
	b.step(Closed{3})
	b.code(b.pushed(1, routes("g", 1, "10.0.0.9")))
	b.step(Repaired{Engine: api.EngineRoutes, Owner: "g", Count: 1})
	b.sent = nil
	b.step(Welcomed{Session: 2, Cluster: "1-x", Proven: true})
	if !slices.Contains(b.sent, "2 report holds []") {
		t.Errorf("it is told %v", b.sent)
	}
	b.step(Opened{4})
	b.sent = nil
	b.step(Welcomed{Session: 4, Cluster: "1-x", Proven: true})
	if slices.Contains(b.sent, "4 report holds []") {
		t.Error("it is told again what its hello said")
	}
}

func TestTicks(t *testing.T) {
	b := newBench(t)
	b.connect(1)
	b.connect(2)
	b.sent = nil
	b.pass(time.Second)
	want := "1 tick 3 2 tick 3 1 tick 4 2 tick 4"
	b.want("sent", strings.Join(b.sent, " "), want)
	b.step(Closed{1})
	b.sent = nil
	b.pass(timing.TickEvery())
	b.want("sent", strings.Join(b.sent, " "), "2 tick 5")
	if b.again > timing.TickEvery() {
		t.Errorf("sleeps for %v", b.again)
	}
}

// TestCrashAnywhere kills the agent after each effect of random pushes. What the next life applies is what is on disk, and never older than what the engines had.
func TestCrashAnywhere(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		b := newBench(t)
		b.connect(1)
		b.pass(timing.Wait())
		generation := int64(0)
		for range 6 {
			generation++
			p := b.pushed(5, routes(group, generation, fmt.Sprintf("10.0.0.%d", generation)), addresses(group, generation, "10.9.0.1/24"))
			b.crashAfter(p, rnd.IntN(6))
			b.start()
			had := b.via()
			if b.disk != nil && had != b.disk.Sections[lead.SectionKey(api.EngineRoutes, group)].Section.Routes.Routes[0].Via {
				t.Fatalf("seed %d: the engines have %s, the disk %+v", seed, had, b.disk)
			}
			if b.held(group) && !b.core.holder.Holds(b.now, group) {
				t.Fatalf("seed %d: addresses without a grant", seed)
			}
			b.connect(1)
			b.pass(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		}
	}
}

// crashAfter performs only the first n effects that follow from the event.
func (b *bench) crashAfter(ev Event, n int) {
	queue := []Event{ev}
	for len(queue) > 0 {
		effects, _ := b.core.Step(b.now, queue[0])
		queue = queue[1:]
		for _, e := range effects {
			if n--; n < 0 {
				return
			}
			switch e := e.(type) {
			case Store:
				b.disk = &e.State
				queue = append(queue, Stored{N: e.N})
			case StoreGrants:
				b.grants = e.Grants
			case Apply:
				b.engines[lead.SectionKey(e.Section.Engine, e.Section.Owner)] = e.Section
				queue = append(queue, Applied{N: e.N, Engine: e.Section.Engine, Owner: e.Section.Owner})
			case Drop:
				delete(b.engines, lead.SectionKey(api.EngineAddresses, e.Owner))
				queue = append(queue, Dropped{Owner: e.Owner})
			}
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	good, _ := State{Version: StateVersion, Sections: map[string]Kept{lead.SectionKey(api.EngineRoutes, group): {Section: routes(group, 1, "10.0.0.4")}}}.Encode()
	f.Add(good)
	f.Add([]byte(`{"version":1,"sections":{"x":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		_, effects := New(Config{Timing: timing, Life: "l", Boot: "b"}, clock.Instant{Mono: time.Hour, Wall: time.Unix(1, 0)}, s, Grants{})
		for _, e := range effects {
			if a, ok := e.(Apply); ok && holdsAny(a.Section) {
				t.Fatal("addresses without a grant")
			}
		}
	})
}

func TestStateIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		`{`:             "unexpected end",
		`{"version":2}`: "version 2, want 1",
		`{"version":1,"sections":{"routes|a":{"section":{"engine":"routes","owner":"a"}}}}`:                        "exactly the payload",
		`{"version":1,"sections":{"routes|b":{"section":{"engine":"routes","owner":"a","routes":{"routes":[]}}}}}`: `filed as "routes|b"`,
	} {
		if _, err := DecodeState([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
