package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/store"
)

// storeModel is a linearizable store with the semantics of package store: one copy of the data, requests and answers
// that may be lost or late, and watches that coalesce, fall behind and have gaps.
type storeModel struct {
	w       *world
	at      place
	down    bool
	rev     store.Rev
	entries map[string]store.Entry
	keys    []string // of entries, sorted
	watches []*watch
}

func (s *storeModel) get(key string) store.Entry { return s.entries[key] }

// list gives what is under prefix, sorted.
func (s *storeModel) list(prefix string) []store.Entry {
	i, _ := slices.BinarySearch(s.keys, prefix)
	var out []store.Entry
	for ; i < len(s.keys) && strings.HasPrefix(s.keys[i], prefix); i++ {
		out = append(out, s.entries[s.keys[i]])
	}
	return out
}

// commit makes a transaction happen, or says why not.
func (s *storeModel) commit(conds []store.Cond, ops []store.Op) ([]store.Rev, error) {
	for _, c := range conds {
		if have := s.entries[c.Key].Rev; have != c.Rev {
			return nil, fmt.Errorf("%w: %q is at revision %d, want %d", store.ErrConflict, c.Key, have, c.Rev)
		}
	}
	revs := make([]store.Rev, len(ops))
	if len(ops) > 0 {
		s.rev++
	}
	for i, o := range ops {
		at, had := slices.BinarySearch(s.keys, o.Key)
		switch {
		case o.Delete && !had:
			continue
		case o.Delete:
			delete(s.entries, o.Key)
			s.keys = slices.Delete(s.keys, at, at+1)
		default:
			s.entries[o.Key] = store.Entry{Key: o.Key, Value: o.Value, Rev: s.rev}
			revs[i] = s.rev
			if !had {
				s.keys = slices.Insert(s.keys, at, o.Key)
			}
		}
		for _, w := range s.watches {
			w.changed(o.Key)
		}
	}
	return revs, nil
}

// fate of one request.
type fate int

const (
	answered    fate = iota
	refused          // the client knows that nothing happened
	requestLost      // nothing happens, and the client does not know
	answerLost       // it happens, and the client does not know
	lateRequest      // the client gives up, and later it happens
)

// storeTimeout is when a client gives a request up.
const storeTimeout = 1200 * time.Millisecond

func (s *storeModel) fate(from place) fate {
	n := s.w.net
	switch {
	case s.down || !n.open(from, s.at):
		if s.w.chance(0.5) {
			return refused
		}
		return requestLost
	case n.lost(from, s.at):
		return requestLost
	case n.lost(s.at, from):
		return answerLost
	}
	switch p := s.w.rng.Float64(); {
	case p > s.w.faulty(0.002):
		return answered
	case p > s.w.faulty(0.0015):
		return refused
	case p > s.w.faulty(0.001):
		return requestLost
	case p > s.w.faulty(0.0005):
		return answerLost
	}
	return lateRequest
}

// txn carries a transaction to the store and its outcome back to done, which is called exactly once.
func (s *storeModel) txn(from place, conds []store.Cond, ops []store.Op, committed func(), done func([]store.Rev, error)) {
	if err := store.ValidTxn(conds, ops); err != nil {
		s.w.violate(1, "invalid transaction: "+err.Error())
		return
	}
	f := s.fate(from)
	unknown := func() {
		s.w.after(storeTimeout, func() { done(nil, fmt.Errorf("%w: no answer", store.ErrUnknown)) })
	}
	arrive := s.w.net.latency(from, s.at)
	switch f {
	case refused:
		s.w.after(arrive, func() { done(nil, fmt.Errorf("%w: refused", store.ErrUnavailable)) })
		return
	case requestLost:
		unknown()
		return
	case answerLost:
		unknown()
	case lateRequest:
		unknown()
		arrive += storeTimeout + time.Duration(s.w.rng.Int64N(int64(6*time.Second)))
	}
	s.w.after(arrive, func() {
		if s.down && f != lateRequest {
			if f == answered {
				unknown()
			}
			return
		}
		revs, err := s.commit(conds, ops)
		if err == nil {
			committed()
		}
		if f != answered {
			return
		}
		if s.w.net.lost(s.at, from) {
			unknown()
			return
		}
		s.w.after(s.w.net.latency(s.at, from), func() { done(revs, err) })
	})
}

// read carries a read; it sees every write that was acknowledged before.
func (s *storeModel) read(from place, keys, prefixes []string, done func([]store.Entry, error)) {
	fail := func() {
		s.w.after(storeTimeout, func() { done(nil, fmt.Errorf("%w: no answer", store.ErrUnavailable)) })
	}
	if s.fate(from) != answered {
		fail()
		return
	}
	s.w.after(s.w.net.latency(from, s.at), func() {
		if s.down || s.w.net.lost(s.at, from) {
			fail()
			return
		}
		var out []store.Entry
		for _, k := range keys {
			if e, ok := s.entries[k]; ok {
				out = append(out, e)
			}
		}
		for _, p := range prefixes {
			out = append(out, s.list(p)...)
		}
		s.w.after(s.w.net.latency(s.at, from), func() { done(out, nil) })
	})
}

// watch is one controller's watch over everything.
type watch struct {
	s       *storeModel
	to      place
	deliver func(store.Batch)
	pending []string // keys that changed since the last flush, in order of their first change
	armed   bool
	gap     bool // everything must be told
	ended   bool
	last    time.Duration // when the latest batch arrives
}

func (s *storeModel) watch(to place, deliver func(store.Batch)) *watch {
	wt := &watch{s: s, to: to, deliver: deliver, gap: true}
	s.watches = append(s.watches, wt)
	wt.arm()
	return wt
}

func (wt *watch) end() {
	wt.ended = true
	wt.s.watches = slices.DeleteFunc(wt.s.watches, func(o *watch) bool { return o == wt })
}

func (wt *watch) changed(key string) {
	if !slices.Contains(wt.pending, key) {
		wt.pending = append(wt.pending, key)
	}
	wt.arm()
}

func (wt *watch) arm() {
	if wt.armed {
		return
	}
	wt.armed = true
	delay := time.Duration(wt.s.w.rng.IntN(3000)) * time.Microsecond
	if wt.s.w.chance(wt.s.w.faulty(0.01)) {
		delay = time.Duration(wt.s.w.rng.Int64N(int64(3 * time.Second)))
	}
	wt.s.w.after(delay, wt.flush)
}

func (wt *watch) flush() {
	w := wt.s.w
	if wt.ended {
		return
	}
	if wt.s.down || wt.s.w.net.lost(wt.s.at, wt.to) || !w.net.open(wt.to, wt.s.at) {
		wt.gap = wt.gap || w.chance(0.7) // else the changes follow
		w.after(500*time.Millisecond, wt.flush)
		return
	}
	wt.armed = false
	if w.chance(w.faulty(0.002)) {
		wt.gap = true
	}
	b := store.Batch{Complete: wt.gap}
	if wt.gap {
		for _, e := range wt.s.list("") {
			b.Changes = append(b.Changes, store.Change{Entry: e})
		}
	} else {
		for _, k := range wt.pending {
			e, ok := wt.s.entries[k]
			if !ok {
				e.Key = k
			}
			b.Changes = append(b.Changes, store.Change{Entry: e, Deleted: !ok})
		}
	}
	wt.pending, wt.gap = nil, false
	wt.last = max(wt.last, w.now+w.net.latency(wt.s.at, wt.to))
	w.at(wt.last, func() {
		if !wt.ended {
			wt.deliver(b)
		}
	})
}
