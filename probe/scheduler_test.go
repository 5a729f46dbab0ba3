package probe

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// recorder keeps results.
type recorder struct {
	mu   sync.Mutex
	list []Result
}

func (r *recorder) add(res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, res)
}

func (r *recorder) results() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Result(nil), r.list...)
}

func TestResultsComeInOrder(t *testing.T) {
	// Answers take between 0 and 40 ms, so later probes end before earlier ones.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				time.Sleep(time.Duration(n*17%41) * time.Millisecond)
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
				c.Close()
			})
		}
	})
	var rec recorder
	s := New(rec.add)
	tg := target(HTTP, l.Addr().String())
	tg.Interval = 5 * time.Millisecond
	if err := s.Set([]Target{tg}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	s.Close()
	s.Close()
	l.Close()
	wg.Wait()
	list := rec.results()
	if len(list) < 30 {
		t.Fatalf("only %d results", len(list))
	}
	for i, r := range list {
		if r.Seq != uint64(i+1) || r.Outcome != OK {
			t.Fatalf("result %d: %+v", i, r)
		}
	}
	if err := s.Set(nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestSetKeepsAndRemoves(t *testing.T) {
	addr := server(t, "")
	var rec recorder
	s := New(rec.add)
	defer s.Close()
	a := target(TCP, addr)
	b := a
	b.ID, b.Protocol, b.Timeout = "b", HTTP, time.Minute // no answer: probes are under way for a minute
	if err := s.Set([]Target{a, b}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	before := len(rec.results())
	began := time.Now()
	if err := s.Set([]Target{a}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > time.Second {
		t.Fatalf("removing a target took %v", d)
	}
	if err := s.Set([]Target{a, a}); err == nil {
		t.Fatal("two targets with one ID were accepted")
	}
	time.Sleep(100 * time.Millisecond)
	for i, r := range rec.results() {
		if r.Target != "a" || r.Seq != uint64(i+1) {
			t.Fatalf("result %d: %+v", i, r)
		}
	}
	if len(rec.results()) <= before {
		t.Fatal("the kept target is probed no more")
	}
}

func TestRefusalStartsOneBurst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var rec recorder
	s := New(rec.add)
	defer s.Close()
	tg := target(TCP, l.Addr().String())
	tg.Interval = 150 * time.Millisecond
	if err := s.Set([]Target{tg}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(40 * time.Millisecond)
	l.Close()
	time.Sleep(900 * time.Millisecond)
	list := rec.results()
	// 1 ok, 1 refused, 5 in a burst of 30 ms each, then every 150 ms again.
	var gaps []time.Duration
	for i := 2; i < len(list); i++ {
		gaps = append(gaps, list[i].Sent.Since(list[i-1].Sent))
		if list[i].Outcome != Fail {
			t.Errorf("result %d: %+v", i, list[i])
		}
	}
	if len(gaps) < 7 {
		t.Fatalf("too few results: %v", gaps)
	}
	for i, g := range gaps {
		if inBurst := i < 5; inBurst != (g < 90*time.Millisecond) {
			t.Fatalf("gap %d is %v; all: %v", i, g, gaps)
		}
	}
}

func TestLostProbesOnlyFail(t *testing.T) {
	var rec recorder
	s := New(rec.add)
	defer s.Close()
	tg := target(HTTP, server(t, ""))
	tg.Interval, tg.Timeout = 15*time.Millisecond, 30*time.Millisecond
	if err := s.Set([]Target{tg}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	failed := 0
	for _, r := range rec.results() {
		if r.Outcome == Fail {
			failed++
		}
	}
	if failed < 5 {
		t.Fatalf("%d failures, want most of: %+v", failed, rec.results())
	}
}

func TestStallMeter(t *testing.T) {
	t0 := time.Now()
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		name           string
		from, to, want int
		do             func(*stallMeter)
	}{
		{"punctual", 0, 30, 0, func(m *stallMeter) { m.beat(at(0), at(5)); m.beat(at(6), at(30)) }},
		{"late beat", 0, 30, 15, func(m *stallMeter) { m.beat(at(0), at(5)); m.beat(at(20), at(30)) }},
		{"overdue beat", 0, 30, 25, func(m *stallMeter) { m.beat(at(0), at(5)) }},
		{"late end of the probe itself", 0, 50, 20, func(m *stallMeter) { m.late(at(30), at(50)) }},
		{"both count once", 0, 50, 25, func(m *stallMeter) { m.beat(at(0), at(25)); m.late(at(30), at(50)) }},
		{"before the probe", 40, 70, 0, func(m *stallMeter) { m.beat(at(0), at(5)); m.beat(at(35), at(80)) }},
		{"partly before the probe", 20, 50, 15, func(m *stallMeter) { m.beat(at(0), at(5)); m.beat(at(35), at(80)) }},
		{"several add up", 0, 50, 20, func(m *stallMeter) {
			m.beat(at(0), at(5))
			m.beat(at(15), at(20))
			m.beat(at(30), at(60))
		}},
	} {
		var m stallMeter
		c.do(&m)
		if got := m.between(at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%s: lost %v, want %dms", c.name, got, c.want)
		}
	}
}

func TestStalledProberDoesNotBlameItsTarget(t *testing.T) {
	mute := netip.MustParseAddrPort(server(t, ""))
	for name, stall := range map[string]func(*runner){
		"": func(r *runner) { r.send() },
		"no beat": func(r *runner) {
			now := time.Now()
			r.meter.beat(now, now.Add(10*time.Millisecond)) // and no beat comes after it: nothing ran for 20 ms
			r.send()
		},
		"late probe": func(r *runner) {
			r.send()
			r.mu.Lock() // the probe stands still here for 60 ms
			time.Sleep(60 * time.Millisecond)
			r.mu.Unlock()
		},
	} {
		var rec recorder
		r := &runner{target: Target{ID: "a", Interval: 15 * time.Millisecond, Timeout: 30 * time.Millisecond, Fall: 5, Protocol: HTTP, Address: mute},
			meter: &stallMeter{}, poke: make(chan struct{}, 1), results: rec.add, ctx: t.Context()}
		stall(r)
		r.work.Wait()
		want := Inconclusive
		if name == "" {
			want = Fail
		}
		if got := rec.results(); len(got) != 1 || got[0].Outcome != want {
			t.Errorf("stalled by %q: got %+v, want %v", name, got, want)
		}
	}
}

func TestBlame(t *testing.T) {
	fast := Target{Interval: 15 * time.Millisecond, Timeout: 30 * time.Millisecond}
	for _, c := range []struct {
		own  bool
		lost time.Duration
		want Outcome
	}{
		{false, 0, Fail},
		{false, 14 * time.Millisecond, Fail},
		{false, 15 * time.Millisecond, Inconclusive},
		{true, 0, Inconclusive},
	} {
		if got, _ := fast.blame(&failure{err: errTimeout, own: c.own}, c.lost); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
