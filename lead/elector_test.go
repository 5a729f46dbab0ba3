package lead

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/store"
)

var timing = Timing{TTL: 3 * time.Second, Margin: 500 * time.Millisecond}

func at(d time.Duration) clock.Instant {
	return clock.Instant{Mono: time.Hour + d, Wall: time.Unix(1_000_000, 0).Add(d)}
}

// docs is a store of the election's two documents.
type docs struct {
	epoch, beat store.Entry
	rev         store.Rev
}

func (s *docs) seen(fresh bool) Seen {
	out := Seen{EpochRev: s.epoch.Rev, BeatRev: s.beat.Rev, Fresh: fresh}
	_ = json.Unmarshal(s.epoch.Value, &out.Epoch)
	_ = json.Unmarshal(s.beat.Value, &out.Beat)
	return out
}

// write applies a transaction as a store would.
func (s *docs) write(w *Write) ([]store.Rev, error) {
	at := map[string]*store.Entry{EpochKey: &s.epoch, BeatKey: &s.beat}
	for _, c := range w.Conds {
		if at[c.Key].Rev != c.Rev {
			return nil, store.ErrConflict
		}
	}
	s.rev++
	var revs []store.Rev
	for _, o := range w.Ops {
		*at[o.Key] = store.Entry{Key: o.Key, Value: o.Value, Rev: s.rev}
		revs = append(revs, s.rev)
	}
	return revs, nil
}

// turn lets an elector write once, if it wants to.
func turn(e *Elector, s *docs, now clock.Instant) bool {
	if e.NeedsRead() {
		e.Saw(now, s.seen(true))
	}
	w, _ := e.Act(now)
	if w == nil {
		return false
	}
	revs, err := s.write(w)
	e.Wrote(now, *w, revs, err)
	return true
}

func TestTheFirstControllerLeadsAtOnceAndASecondWaits(t *testing.T) {
	s := &docs{}
	a, b := NewElector("a", timing), NewElector("b", timing)
	turn(a, s, at(0))
	if !a.Leads(at(0)) || a.Epoch() != 1 {
		t.Fatalf("a: %v epoch %d, want leader of epoch 1", a.Role(), a.Epoch())
	}
	for d := time.Duration(0); d < timing.Wait(); d += 100 * time.Millisecond {
		if turn(b, s, at(d)); b.Leads(at(d)) {
			t.Fatalf("b leads %v after it saw a's beat", d)
		}
	}
	if a.Leads(at(timing.Hold())) {
		t.Error("a still leads ttl-margin after its last renewal began")
	}
	turn(b, s, at(timing.Wait()))
	if !b.Leads(at(timing.Wait())) || b.Epoch() != 2 {
		t.Fatalf("b: %v epoch %d, want leader of epoch 2", b.Role(), b.Epoch())
	}
	if _, clean := b.Acquired(); clean {
		t.Error("b says that a let go cleanly")
	}
}

func TestARenewalCountsFromItsBeginning(t *testing.T) {
	s := &docs{}
	a := NewElector("a", timing)
	turn(a, s, at(0))
	w, _ := a.Act(at(time.Second))
	revs, err := s.write(w)
	a.Wrote(at(2*time.Second), *w, revs, err) // the answer took a second
	if !a.Leads(at(3400 * time.Millisecond)) {
		t.Error("a does not lead within ttl-margin of the renewal's beginning")
	}
	if a.Leads(at(3500 * time.Millisecond)) {
		t.Error("a leads ttl-margin after the renewal's beginning")
	}
}

func TestAReleasedLeaseIsTakenAtOnce(t *testing.T) {
	s := &docs{}
	a, b := NewElector("a", timing), NewElector("b", timing)
	turn(a, s, at(0))
	turn(b, s, at(0))
	a.Resign()
	turn(a, s, at(100*time.Millisecond))
	if a.Leads(at(100 * time.Millisecond)) {
		t.Fatal("a leads after it let go")
	}
	b.Saw(at(110*time.Millisecond), s.seen(false))
	turn(b, s, at(600*time.Millisecond))
	if _, clean := b.Acquired(); !b.Leads(at(600*time.Millisecond)) || !clean {
		t.Fatalf("b: %v, clean %v; want a leader by a clean start", b.Role(), clean)
	}
}

func TestABidWithUnknownOutcomeIsSettledByReading(t *testing.T) {
	for _, happened := range []bool{true, false} {
		s := &docs{}
		a := NewElector("a", timing)
		a.Saw(at(0), s.seen(true))
		w, _ := a.Act(at(0))
		if happened {
			if _, err := s.write(w); err != nil {
				t.Fatal(err)
			}
		}
		a.Wrote(at(time.Second), *w, nil, store.ErrUnknown)
		if a.Leads(at(time.Second)) || !a.NeedsRead() {
			t.Fatal("a acts before it has read")
		}
		a.Saw(at(time.Second), s.seen(true))
		if a.Leads(at(time.Second)) != happened {
			t.Errorf("happened %v: leads %v", happened, !happened)
		}
		if happened && a.Leads(at(timing.Hold())) {
			t.Error("the right counts from later than the bid's beginning")
		}
	}
}

func TestALeaderThatReadsAnotherEpochSteps(t *testing.T) {
	s := &docs{}
	a := NewElector("a", timing)
	turn(a, s, at(0))
	s.rev++
	s.epoch = store.Entry{Key: EpochKey, Value: encode(EpochDoc{Epoch: 2, Holder: "b"}), Rev: s.rev}
	a.Saw(at(time.Second), s.seen(false))
	if a.Leads(at(time.Second)) {
		t.Fatal("a leads although the store shows epoch 2 of b")
	}
}

func TestASuspendedLeaderNoticesByTheWallClock(t *testing.T) {
	s := &docs{}
	a := NewElector("a", timing)
	turn(a, s, at(0))
	woke := at(100 * time.Millisecond)
	woke.Wall = woke.Wall.Add(time.Minute)
	if a.Leads(woke) {
		t.Fatal("a leads after its machine stood still for a minute")
	}
}

func TestTimingRefusesWhatGuardsNothing(t *testing.T) {
	for _, c := range []Timing{{TTL: 100 * time.Millisecond, Margin: 20 * time.Millisecond}, {TTL: 3 * time.Second},
		{TTL: 3 * time.Second, Margin: 2 * time.Second}, {TTL: 2 * time.Hour, Margin: time.Minute}} {
		if c.Validate() == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	if err := DefaultTiming.Validate(); err != nil {
		t.Error(err)
	}
}
