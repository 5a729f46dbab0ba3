package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/store"
)

// change makes one change of every sort, through s.
func change(t *testing.T, s store.Store, round string) {
	t.Helper()
	txn(t, s, put("k/changed", round), put("k/"+round, "new"), del("k/deleted"), put("k/again", round))
	txn(t, s, del("k/again"))
	txn(t, s, put("k/again", "again "+round))
}

// prepare gives a follower that is up to date with some keys.
func prepare(t *testing.T, h Harness) *follower {
	t.Helper()
	txn(t, h.Peer, put("k/changed", "0"), put("k/deleted", "0"), put("k/again", "0"), put("k/same", "0"))
	f := follow(t, h.Store, "k/")
	f.until(h.Peer, nil)
	return f
}

// testGapCut takes the watcher away while others write. Meanwhile its calls fail in good time.
func testGapCut(t *testing.T, h Harness) {
	f := prepare(t, h)
	heal := h.Cut()
	change(t, h.Peer, "1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begin := time.Now()
	if _, err := h.Store.Get(ctx, "k/same"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get while cut off: %v", err)
	}
	if _, err := h.Store.Txn(ctx, nil, []store.Op{put("k/lost", "x")}); !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnknown) {
		t.Errorf("Txn while cut off: %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("calls with one second to live took %v", took)
	}
	change(t, h.Peer, "2")
	heal()
	f.until(h.Peer, nil)
	change(t, h.Peer, "3")
	f.until(h.Peer, nil)
	try(t, h.Store, "k/after", "x")
	f.until(h.Peer, nil)
}

func testGapExpire(t *testing.T, h Harness) {
	f := prepare(t, h)
	h.Expire()
	change(t, h.Peer, "1")
	f.until(h.Peer, nil)
	change(t, h.Peer, "2")
	f.until(h.Peer, nil)
	try(t, h.Store, "k/after", "x")
	f.until(h.Peer, nil)
}

// testGapCompact is testGapCut with the history gone when the watcher comes back: it must say so
// by a Complete batch.
func testGapCompact(t *testing.T, h Harness) {
	f := prepare(t, h)
	heal := h.Cut()
	change(t, h.Peer, "1")
	h.Compact()
	change(t, h.Peer, "2")
	h.Compact()
	heal()
	f.until(h.Peer, func() bool { return f.complete >= 2 })
	change(t, h.Peer, "3")
	f.until(h.Peer, nil)
}

func testGapKillLeader(t *testing.T, h Harness) {
	f := prepare(t, h)
	restore := h.KillLeader()
	for i := range 10 {
		try(t, h.Store, fmt.Sprint("k/", i), "down")
		try(t, h.Peer, "k/changed", fmt.Sprint(i))
	}
	f.until(h.Peer, nil)
	restore()
	for i := range 10 {
		try(t, h.Peer, fmt.Sprint("k/", i), "up")
	}
	f.until(h.Peer, nil)
}

func testReopen(t *testing.T, h Harness) {
	rev := txn(t, h.Store, put("a", "kept"), put("b", "kept"))
	txn(t, h.Store, del("b"))
	if err := h.Store.Close(); err != nil {
		t.Fatal(err)
	}
	s := h.Reopen()
	defer s.Close()
	if e := wantValue(t, s, "a", "kept"); e.Rev != rev {
		t.Errorf("revision %d after the restart, %d before", e.Rev, rev)
	}
	wantValue(t, s, "b", "")
	f := follow(t, s, "")
	f.until(s, nil)
	if next := txn(t, s, put("b", "new")); next == rev {
		t.Errorf("revision %d came again after the restart", next)
	}
	if _, err := s.Txn(soon(t), []store.Cond{{Key: "a", Rev: rev}}, []store.Op{del("a")}); err != nil {
		t.Errorf("condition from before the restart: %v", err)
	}
	f.until(s, nil)
}
