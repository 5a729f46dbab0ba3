package lead

import (
	"errors"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
)

func sections(generation int64) []api.Section {
	return []api.Section{{Engine: api.EngineRoutes, Owner: "ApplianceGroup/default/dmz", Generation: generation}}
}

func TestGate(t *testing.T) {
	key := SectionKey(api.EngineRoutes, "ApplianceGroup/default/dmz")
	seen := GateState{ClusterID: "2-x", Epoch: 5, Sections: map[string]api.Token{key: {ClusterID: "2-x", Epoch: 5, Generation: 7}}}
	for _, c := range []struct {
		name    string
		token   api.Token
		section int64
		age     time.Duration
		never   bool // the tick was never sent
		proven  bool
		want    error
	}{
		{name: "newer generation", token: api.Token{ClusterID: "2-x", Epoch: 5}, section: 8},
		{name: "the same again", token: api.Token{ClusterID: "2-x", Epoch: 5}, section: 7},
		{name: "newer epoch", token: api.Token{ClusterID: "2-x", Epoch: 6}, section: 7},
		{name: "older generation", token: api.Token{ClusterID: "2-x", Epoch: 5}, section: 6, want: ErrOldGeneration},
		{name: "older generation by a newer epoch", token: api.Token{ClusterID: "2-x", Epoch: 6}, section: 6, want: ErrOldGeneration},
		{name: "older epoch", token: api.Token{ClusterID: "2-x", Epoch: 4}, section: 9, want: ErrOldEpoch},
		{name: "older cluster", token: api.Token{ClusterID: "1-x", Epoch: 9}, section: 9, proven: true, want: ErrOldCluster},
		{name: "newer cluster with the CA's word", token: api.Token{ClusterID: "3-x", Epoch: 1}, section: 1, proven: true},
		{name: "newer cluster without it", token: api.Token{ClusterID: "3-x", Epoch: 9}, section: 9, want: ErrClusterUnproven},
		{name: "tick too old", token: api.Token{ClusterID: "2-x", Epoch: 9}, section: 9, age: timing.Hold(), want: ErrStaleTick},
		{name: "tick just young enough", token: api.Token{ClusterID: "2-x", Epoch: 9}, section: 9, age: timing.Hold() - 1},
		{name: "tick of another life", token: api.Token{ClusterID: "2-x", Epoch: 9}, section: 9, never: true, want: ErrStaleTick},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewGate(timing, NewGate(timing, seen).State())
			sent := at(0)
			if c.never {
				sent = clock.Instant{}
			}
			before := g.State()
			err := g.Admit(at(c.age), sent, c.token, c.proven, sections(c.section))
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			after := g.State()
			if err != nil && (after.Epoch != before.Epoch || after.Sections[key] != before.Sections[key]) {
				t.Error("a refused push moved the state")
			}
			if err == nil && after.Sections[key].Generation != c.section {
				t.Errorf("kept generation %d, want %d", after.Sections[key].Generation, c.section)
			}
		})
	}
}

func TestEchoesWaitForARenewalThatBeganLater(t *testing.T) {
	var e Echoes
	e.Arrived(at(time.Second), 1)
	if e.Renewed(at(900 * time.Millisecond)) {
		t.Fatal("echoed on a renewal that began before the tick came")
	}
	e.Arrived(at(2*time.Second), 2)
	if !e.Renewed(at(1500 * time.Millisecond)) {
		t.Fatal("not echoed on a renewal that began after the tick came")
	}
	if seq, ok := e.Proven(); !ok || seq != 1 {
		t.Fatalf("proven %d %v, want 1", seq, ok)
	}
}

func TestHolder(t *testing.T) {
	born := at(-time.Minute)
	const owner = "ApplianceGroup/default/dmz"
	t.Run("a grant ends ttl-margin after the tick was sent", func(t *testing.T) {
		h := NewHolder(timing, born)
		if h.Grant(at(time.Second), at(0), owner) {
			t.Fatal("had to wait")
		}
		if !h.Holds(at(timing.Hold()-1), owner) || h.Holds(at(timing.Hold()), owner) {
			t.Error("does not end at ttl-margin")
		}
		h.Echoed(at(2*time.Second), []string{owner})
		if got := h.Expired(at(timing.Hold())); len(got) != 0 {
			t.Errorf("expired %v in spite of an echo", got)
		}
		if got := h.Expired(at(2*time.Second + timing.Hold())); len(got) != 1 {
			t.Errorf("expired %v, want the owner", got)
		}
	})
	t.Run("an echo brings no grant back", func(t *testing.T) {
		h := NewHolder(timing, born)
		h.Echoed(at(0), []string{owner})
		if h.Holds(at(1), owner) {
			t.Error("holds what was never granted")
		}
	})
	t.Run("a promise keeps grants away for as long as a successor waits", func(t *testing.T) {
		h := NewHolder(timing, born)
		if !h.Promise(at(0), owner) {
			t.Fatal("does not promise although no leader echoes")
		}
		if !h.Grant(at(timing.Wait()-1), at(timing.Wait()-1), owner) {
			t.Error("takes a grant in spite of its promise")
		}
		if h.Grant(at(timing.Wait()), at(timing.Wait()), owner) {
			t.Error("waits although the promise is over")
		}
	})
	t.Run("no promise by one who holds, or who hears a leader", func(t *testing.T) {
		h := NewHolder(timing, born)
		h.Echoed(at(0), nil)
		if h.Promise(at(time.Second), owner) {
			t.Error("promises although a leader echoes")
		}
		if !h.Promise(at(timing.Hold()), owner) {
			t.Error("does not promise although the leader is silent")
		}
		g := NewHolder(timing, born)
		g.Grant(at(0), at(0), owner)
		if g.Promise(at(time.Second), owner) {
			t.Error("promises what it holds itself")
		}
	})
	t.Run("a holder falls out of touch while there is time to ask", func(t *testing.T) {
		h := NewHolder(timing, born)
		h.Grant(at(0), at(0), owner)
		h.Echoed(at(time.Second), []string{owner})
		when := at(time.Second + timing.Hold()*2/3)
		if h.InTouch(when) || len(h.MustAsk(when)) != 1 || !h.Holds(when, owner) {
			t.Errorf("two thirds into the grant: in touch %v, must ask %v, holds %v", h.InTouch(when), h.MustAsk(when), h.Holds(when, owner))
		}
	})
	t.Run("a fresh life takes no grant while an earlier one may have promised", func(t *testing.T) {
		h := NewHolder(timing, at(0))
		if !h.Grant(at(timing.Wait()-1), at(timing.Wait()-1), owner) {
			t.Error("takes a grant although an earlier life may have promised")
		}
	})
}
