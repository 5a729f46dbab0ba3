// Package storetest is the one conformance suite of package store: every implementation
// passes Run, and those with servers pass Scale as well.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/store"
)

// patience is how long the suite waits for what must happen. Backends with servers on
// a busy machine need some of it.
const patience = 40 * time.Second

// Harness is a store under test, with no keys in it, and what can be done to it. The hooks are
// optional; a subtest that needs a missing one is left out. Hooks fail the test by themselves.
type Harness struct {
	// Store is the store under test. The suite closes it.
	Store store.Store
	// Peer is another client of the same data, which none of Store's faults touch. Required.
	Peer store.Store

	// Cut takes Store, not Peer, away from its servers until heal is called.
	Cut func() (heal func())
	// Expire makes the servers forget Store's session, as if it had been silent for too long.
	Expire func()
	// Compact drops the history that a watch could resume from.
	Compact func()
	// KillLeader kills the server that leads. Store and Peer get by without it, or
	// it is back before KillLeader returns. restore brings it back otherwise.
	KillLeader func() (restore func())
	// Reopen gives a new client of the same data after every server was stopped and
	// started. Store is closed by then, Peer need not work any more.
	Reopen func() store.Store
}

// Run checks that the stores which start gives keep the contract of store.Store. Every subtest
// takes a new harness.
func Run(t *testing.T, start func(t *testing.T) Harness) {
	tests := []struct {
		name  string
		run   func(t *testing.T, h Harness)
		needs func(h Harness) bool // nil: none
	}{
		{"Get", testGet, nil},
		{"List", testList, nil},
		{"Txn/Conditions", testConditions, nil},
		{"Txn/AllOrNothing", testAllOrNothing, nil},
		{"Txn/CheckOnly", testCheckOnly, nil},
		{"Txn/RevsNeverRepeat", testRevsNeverRepeat, nil},
		{"Txn/StaleDeleteAndCreate", testStaleDeleteAndCreate, nil},
		{"Txn/Limits", testLimits, nil},
		{"Txn/Refusals", testRefusals, nil},
		{"Txn/Counter", testCounter, nil},
		{"Txn/Transfers", testTransfers, nil},
		{"Txn/WriteSkew", testWriteSkew, nil},
		{"Fresh", testFresh, nil},
		{"Context", testContext, nil},
		{"Close", testClose, nil},
		{"Watch/FirstBatch", testWatchFirst, nil},
		{"Watch/Follows", testWatchFollows, nil},
		{"Watch/Prefix", testWatchPrefix, nil},
		{"Watch/SlowReader", testWatchSlow, nil},
		{"Watch/Ends", testWatchEnds, nil},
		{"Watch/ManyWriters", testWatchManyWriters, nil},
		{"Watch/ManyEnd", testWatchManyEnd, nil},
		{"Gap/Cut", testGapCut, func(h Harness) bool { return h.Cut != nil }},
		{"Gap/Expire", testGapExpire, func(h Harness) bool { return h.Expire != nil }},
		{"Gap/Compact", testGapCompact, func(h Harness) bool { return h.Cut != nil && h.Compact != nil }},
		{"Gap/KillLeader", testGapKillLeader, func(h Harness) bool { return h.KillLeader != nil }},
		{"Gap/Reopen", testReopen, func(h Harness) bool { return h.Reopen != nil }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := start(t)
			t.Cleanup(func() { h.Store.Close(); h.Peer.Close() })
			if test.needs != nil && !test.needs(h) {
				t.Log("left out: this backend has no such fault")
				return
			}
			test.run(t, h)
		})
	}
}

// soon is a context that ends when patience does.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func put(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }
func del(key string) store.Op        { return store.Op{Key: key, Delete: true} }

// txn makes ops happen without conditions and gives the revision of the first.
func txn(t *testing.T, s store.Store, ops ...store.Op) store.Rev {
	t.Helper()
	revs, err := s.Txn(soon(t), nil, ops)
	if err != nil {
		t.Fatalf("Txn(%s): %v", describe(ops), err)
	}
	if len(revs) != len(ops) {
		t.Fatalf("Txn of %d ops gave %d revisions", len(ops), len(revs))
	}
	for i, o := range ops {
		if o.Delete != (revs[i] == 0) {
			t.Fatalf("Txn(%s) gave revision %d for op %d", describe(ops), revs[i], i)
		}
	}
	return revs[0]
}

func describe(ops []store.Op) (s string) {
	for _, o := range ops {
		if o.Delete {
			s += fmt.Sprintf(" -%s", o.Key)
		} else {
			s += fmt.Sprintf(" %s=%.20q", o.Key, o.Value)
		}
	}
	return s
}

// wantValue checks what Get says of key; "" means not found.
func wantValue(t *testing.T, s store.Store, key, value string) store.Entry {
	t.Helper()
	e, err := s.Get(soon(t), key)
	switch {
	case value == "" && !errors.Is(err, store.ErrNotFound):
		t.Fatalf("Get(%q) = %.20q, %v, want ErrNotFound", key, e.Value, err)
	case value != "" && err != nil:
		t.Fatalf("Get(%q): %v, want %.20q", key, err, value)
	case value != "" && (string(e.Value) != value || e.Key != key || e.Rev == 0):
		t.Fatalf("Get(%q) = %q %.20q at %d, want %.20q", key, e.Key, e.Value, e.Rev, value)
	}
	return e
}

// try repeats txn until it is known what came of it, as a careful writer does when servers fail:
// it writes value at key, which nobody else writes.
func try(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	ctx := soon(t)
	for {
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := s.Txn(call, nil, []store.Op{put(key, value)})
		cancel()
		if err == nil {
			return
		}
		if !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("Txn(%s): %v", key, err)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("Txn(%s): %v, still after %v", key, err, patience)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
