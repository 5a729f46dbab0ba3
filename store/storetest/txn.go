package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/understudy-ha/understudy/store"
)

func testGet(t *testing.T, h Harness) {
	wantValue(t, h.Store, "a", "")
	rev := txn(t, h.Store, put("a", "1"))
	if e := wantValue(t, h.Peer, "a", "1"); e.Rev != rev {
		t.Errorf("Get gives revision %d, Txn gave %d", e.Rev, rev)
	}
	next := txn(t, h.Peer, put("a", "2"))
	if e := wantValue(t, h.Store, "a", "2"); e.Rev != next || next == rev {
		t.Errorf("second write: revision %d from Get, %d from Txn, %d before", e.Rev, next, rev)
	}
	txn(t, h.Store, put("a/b", "below"), put("z", ""))
	wantValue(t, h.Store, "a", "2")
	wantValue(t, h.Store, "a/b", "below")
	if e, err := h.Peer.Get(soon(t), "z"); err != nil || len(e.Value) != 0 || e.Rev == 0 {
		t.Errorf("empty value: %v %v", e, err)
	}
	txn(t, h.Store, del("a"))
	wantValue(t, h.Peer, "a", "")
	wantValue(t, h.Peer, "a/b", "below")

	buf := []byte("mine")
	if _, err := h.Store.Txn(soon(t), nil, []store.Op{{Key: "buf", Value: buf}}); err != nil {
		t.Fatal(err)
	}
	copy(buf, "XXXX")
	wantValue(t, h.Store, "buf", "mine")
}

func testList(t *testing.T, h Harness) {
	if got := keys(t, h.Store, ""); got != "" {
		t.Fatalf("a new store holds %q", got)
	}
	odd := "A-Z_0.9~%2F:@+=-"
	txn(t, h.Store, put("a/2", "2"), put("a/1", "1"), put("a", "v"), put("ab/1", "x"), put("a/1/x", "deep"), put("b", "b"), put(odd, "o"))
	txn(t, h.Store, put("gone", "x"))
	txn(t, h.Store, del("gone"))
	for prefix, want := range map[string]string{
		"":     odd + " a a/1 a/1/x a/2 ab/1 b",
		"a/":   "a/1 a/1/x a/2",
		"a/1/": "a/1/x",
		"c/":   "",
		"b/":   "",
	} {
		if got := keys(t, h.Peer, prefix); got != want {
			t.Errorf("List(%q) = %q, want %q", prefix, got, want)
		}
	}
	entries, err := h.Store.List(soon(t), "a/")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if got := wantValue(t, h.Store, e.Key, string(e.Value)); got.Rev != e.Rev {
			t.Errorf("List gives %q revision %d, Get %d", e.Key, e.Rev, got.Rev)
		}
	}
}

func keys(t *testing.T, s store.Store, prefix string) string {
	t.Helper()
	entries, err := s.List(soon(t), prefix)
	if err != nil {
		t.Fatalf("List(%q): %v", prefix, err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Key)
	}
	return strings.Join(out, " ")
}

func testConditions(t *testing.T, h Harness) {
	old := txn(t, h.Store, put("x", "1"))
	now := txn(t, h.Store, put("x", "2"))
	txn(t, h.Store, put("gone", "1"))
	txn(t, h.Store, del("gone"))
	never := now + 1_000_000
	for _, c := range []struct {
		name string
		cond []store.Cond
		ok   bool
	}{
		{"at its revision", []store.Cond{{Key: "x", Rev: now}}, true},
		{"at an old revision", []store.Cond{{Key: "x", Rev: old}}, false},
		{"at a revision to come", []store.Cond{{Key: "x", Rev: never}}, false},
		{"there, wanted absent", []store.Cond{{Key: "x"}}, false},
		{"absent", []store.Cond{{Key: "new"}}, true},
		{"deleted", []store.Cond{{Key: "gone"}}, true},
		{"absent, wanted there", []store.Cond{{Key: "new", Rev: now}}, false},
		{"deleted, wanted there", []store.Cond{{Key: "gone", Rev: now}}, false},
		{"both hold", []store.Cond{{Key: "x", Rev: now}, {Key: "new"}}, true},
		{"second fails", []store.Cond{{Key: "new"}, {Key: "x", Rev: old}}, false},
		{"same key twice", []store.Cond{{Key: "x", Rev: now}, {Key: "x", Rev: now}}, true},
		{"same key twice, at odds", []store.Cond{{Key: "x", Rev: now}, {Key: "x"}}, false},
	} {
		// The written key is another than the conditions' ones.
		_, err := h.Store.Txn(soon(t), c.cond, []store.Op{put("y", c.name)})
		if ok := err == nil; ok != c.ok || !ok && !errors.Is(err, store.ErrConflict) {
			t.Fatalf("%s: %v", c.name, err)
		}
		if c.ok {
			wantValue(t, h.Peer, "y", c.name)
		} else if e, err := h.Peer.Get(soon(t), "y"); err == nil && string(e.Value) == c.name {
			t.Fatalf("%s: written in spite of the conflict", c.name)
		}
		wantValue(t, h.Peer, "new", "")
		wantValue(t, h.Peer, "gone", "")
	}
	// A condition on the key that is written.
	for i, key := range []string{"made", "gone"} {
		revs, err := h.Store.Txn(soon(t), []store.Cond{{Key: key}}, []store.Op{put(key, "first")})
		if err != nil {
			t.Fatalf("create %q: %v", key, err)
		}
		if _, err := h.Peer.Txn(soon(t), []store.Cond{{Key: key}}, []store.Op{put(key, "again")}); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("%d: create twice: %v", i, err)
		}
		if _, err := h.Peer.Txn(soon(t), []store.Cond{{Key: key, Rev: revs[0]}}, []store.Op{del(key)}); err != nil {
			t.Fatalf("%d: delete: %v", i, err)
		}
		if _, err := h.Store.Txn(soon(t), []store.Cond{{Key: key, Rev: revs[0]}}, []store.Op{del(key)}); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("%d: delete twice under a condition: %v", i, err)
		}
		txn(t, h.Store, del(key))
	}
}

func testAllOrNothing(t *testing.T, h Harness) {
	rev := txn(t, h.Store, put("guard", "1"), put("a", "old"), put("b", "old"))
	for _, conds := range [][]store.Cond{{{Key: "guard"}}, {{Key: "a", Rev: rev}, {Key: "c", Rev: rev}}} {
		revs, err := h.Store.Txn(soon(t), conds, []store.Op{put("a", "new"), del("b"), put("c", "new"), del("d")})
		if !errors.Is(err, store.ErrConflict) || revs != nil {
			t.Fatalf("Txn = %v, %v", revs, err)
		}
		wantValue(t, h.Peer, "a", "old")
		wantValue(t, h.Peer, "b", "old")
		wantValue(t, h.Peer, "c", "")
	}
	revs, err := h.Store.Txn(soon(t), []store.Cond{{Key: "guard", Rev: rev}}, []store.Op{put("a", "new"), del("b"), put("c", "new"), del("d")})
	if err != nil {
		t.Fatal(err)
	}
	a, c := wantValue(t, h.Peer, "a", "new"), wantValue(t, h.Peer, "c", "new")
	wantValue(t, h.Peer, "b", "")
	if len(revs) != 4 || revs[0] != a.Rev || revs[1] != 0 || revs[2] != c.Rev || revs[3] != 0 {
		t.Errorf("revisions %v, want %d 0 %d 0", revs, a.Rev, c.Rev)
	}
}

func testCheckOnly(t *testing.T, h Harness) {
	rev := txn(t, h.Store, put("a", "1"))
	if revs, err := h.Store.Txn(soon(t), []store.Cond{{Key: "a", Rev: rev}, {Key: "none"}}, nil); err != nil || len(revs) != 0 {
		t.Errorf("conditions that hold: %v %v", revs, err)
	}
	if _, err := h.Store.Txn(soon(t), []store.Cond{{Key: "a", Rev: rev}, {Key: "none", Rev: rev}}, nil); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a condition that does not hold: %v", err)
	}
	if _, err := h.Store.Txn(soon(t), nil, nil); err != nil {
		t.Errorf("nothing at all: %v", err)
	}
	wantValue(t, h.Store, "none", "")
	if e := wantValue(t, h.Store, "a", "1"); e.Rev != rev {
		t.Errorf("a check changed the revision from %d to %d", rev, e.Rev)
	}
}

func testRevsNeverRepeat(t *testing.T, h Harness) {
	seen := map[store.Rev]int{}
	for i := range 60 {
		rev := txn(t, h.Store, put("k", strconv.Itoa(i%2)))
		if at, ok := seen[rev]; ok {
			t.Fatalf("write %d got revision %d, as write %d did", i, rev, at)
		}
		seen[rev] = i
		if i%3 == 2 {
			txn(t, h.Peer, del("k"))
		}
	}
}

// testStaleDeleteAndCreate is the ABA problem: a writer that read before the key was deleted and
// created again, with the same content, must not pass.
func testStaleDeleteAndCreate(t *testing.T, h Harness) {
	stale := txn(t, h.Store, put("k", "same"))
	txn(t, h.Peer, del("k"))
	now := txn(t, h.Peer, put("k", "same"))
	if _, err := h.Store.Txn(soon(t), []store.Cond{{Key: "k", Rev: stale}}, []store.Op{put("k", "stale")}); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a stale writer passed: %v", err)
	}
	if e := wantValue(t, h.Store, "k", "same"); e.Rev != now {
		t.Errorf("revision %d, want %d", e.Rev, now)
	}
}

func testLimits(t *testing.T, h Harness) {
	big := strings.Repeat("x", store.MaxValue)
	txn(t, h.Store, put("big", big))
	wantValue(t, h.Peer, "big", big)
	long := strings.Repeat("k", store.MaxKey)
	txn(t, h.Store, put(long, "long"))
	wantValue(t, h.Peer, long, "long")

	// The largest transaction: all keys new, then all keys changed under conditions, then all deleted.
	var ops, dels []store.Op
	var conds []store.Cond
	share := store.MaxTxnBytes/store.MaxTxnKeys - store.MaxKey
	for i := range store.MaxTxnKeys {
		key := fmt.Sprintf("%02d/%s", i, strings.Repeat("n", store.MaxKey-3))
		ops = append(ops, put(key, strings.Repeat("v", share)))
		dels = append(dels, del(key))
		conds = append(conds, store.Cond{Key: key})
	}
	for range 2 {
		revs, err := h.Store.Txn(soon(t), conds, ops)
		if err != nil {
			t.Fatalf("largest transaction: %v", err)
		}
		for i := range conds {
			conds[i].Rev = revs[i]
		}
	}
	if _, err := h.Store.Txn(soon(t), conds, dels); err != nil {
		t.Fatalf("largest transaction of deletes: %v", err)
	}
	if got := keys(t, h.Peer, "00/"); got != "" {
		t.Errorf("left over: %q", got)
	}
}

func testRefusals(t *testing.T, h Harness) {
	var many []store.Op
	for i := range store.MaxTxnKeys + 1 {
		many = append(many, put(fmt.Sprint("k", i), "v"))
	}
	half := strings.Repeat("x", store.MaxTxnBytes/2)
	for name, ops := range map[string][]store.Op{
		"value too large":     {put("ok", "v"), put("k", strings.Repeat("x", store.MaxValue+1))},
		"too many keys":       many,
		"too many bytes":      {put("a", half), put("b", half)},
		"key written twice":   {put("k", "1"), del("k")},
		"key too long":        {put(strings.Repeat("k", store.MaxKey+1), "v")},
		"empty key":           {put("", "v")},
		"leading slash":       {put("/k", "v")},
		"trailing slash":      {put("k/", "v")},
		"double slash":        {put("k//k", "v")},
		"dot segment":         {put("k/./k", "v")},
		"dotdot segment":      {put("../k", "v")},
		"blank":               {put("a b", "v")},
		"comma":               {put("a,b", "v")},
		"zero byte":           {put("a\x00b", "v")},
		"not ASCII":           {put("ä", "v")},
		"bad key of a delete": {del("a b")},
	} {
		if _, err := h.Store.Txn(soon(t), nil, ops); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	var conds []store.Cond
	for _, o := range many {
		conds = append(conds, store.Cond{Key: o.Key})
	}
	for name, conds := range map[string][]store.Cond{"too many": conds, "bad key": {{Key: "a b"}}} {
		if _, err := h.Store.Txn(soon(t), conds, nil); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("conditions, %s: %v, want ErrInvalid", name, err)
		}
	}
	if _, err := h.Store.Get(soon(t), "a//b"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Get of a bad key: %v", err)
	}
	for _, prefix := range []string{"a", "/", "a//", "a b/"} {
		if _, err := h.Store.List(soon(t), prefix); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("List(%q): %v", prefix, err)
		}
		if _, err := h.Store.Watch(soon(t), prefix); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Watch(%q): %v", prefix, err)
		}
	}
	if got := keys(t, h.Peer, ""); got != "" {
		t.Errorf("refused transactions left %q", got)
	}
}

// testCounter has writers on both clients add to one number by compare-and-swap. Nothing may be lost.
func testCounter(t *testing.T, h Harness) {
	const writers, each = 8, 15
	var wg sync.WaitGroup
	for w := range writers {
		s := h.Store
		if w%2 == 1 {
			s = h.Peer
		}
		wg.Go(func() {
			for range each {
				if err := increment(t, s, "n", 1); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	wantValue(t, h.Store, "n", strconv.Itoa(writers*each))
}

// increment adds to the number at key, which may not be there yet, however often others are faster.
func increment(t *testing.T, s store.Store, key string, by int) error {
	ctx := soon(t)
	for {
		e, err := s.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(e.Value))
		_, err = s.Txn(ctx, []store.Cond{{Key: key, Rev: e.Rev}}, []store.Op{put(key, strconv.Itoa(n+by))})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// testTransfers moves amounts between accounts, which are deleted when empty: the sum stays, so no
// transaction saw or left half of another.
func testTransfers(t *testing.T, h Harness) {
	const accounts, total = 4, 12
	account := func(i int) string { return fmt.Sprint("account/", i) }
	txn(t, h.Store, put(account(0), strconv.Itoa(total)))
	var wg sync.WaitGroup
	for w := range 4 {
		s := []store.Store{h.Store, h.Peer}[w%2]
		random := rand.New(rand.NewPCG(uint64(w), 1))
		wg.Go(func() {
			for range 25 {
				from := random.IntN(accounts)
				if err := transfer(t, s, account(from), account((from+1)%accounts)); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	entries, err := h.Store.List(soon(t), "account/")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, e := range entries {
		n, _ := strconv.Atoi(string(e.Value))
		sum += n
	}
	if sum != total {
		t.Errorf("the accounts hold %d, want %d: %v", sum, total, entries)
	}
}

// transfer moves 1 from one account to the next, if there is 1.
func transfer(t *testing.T, s store.Store, from, to string) error {
	ctx := soon(t)
	for {
		var conds []store.Cond
		var ops []store.Op
		for i, key := range []string{from, to} {
			e, err := s.Get(ctx, key)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			n, _ := strconv.Atoi(string(e.Value))
			if i == 0 && n == 0 {
				return nil
			}
			n += 2*i - 1
			conds = append(conds, store.Cond{Key: key, Rev: e.Rev})
			if n == 0 {
				ops = append(ops, del(key))
			} else {
				ops = append(ops, put(key, strconv.Itoa(n)))
			}
		}
		if _, err := s.Txn(ctx, conds, ops); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// testWriteSkew has two writers give up their own key if the other's is there, and then take their own if the
// other's is not: a condition on a key that is not written must hold at the very moment of the write.
func testWriteSkew(t *testing.T, h Harness) {
	both := func(ops ...store.Op) (passed int) {
		t.Helper()
		revs := make([]store.Rev, 2)
		for i, o := range ops {
			if e, err := h.Store.Get(soon(t), o.Key); err == nil {
				revs[i] = e.Rev
			}
		}
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i, s := range []store.Store{h.Store, h.Peer} {
			wg.Go(func() {
				_, errs[i] = s.Txn(soon(t), []store.Cond{{Key: ops[1-i].Key, Rev: revs[1-i]}}, ops[i:i+1])
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err == nil {
				passed++
			} else if !errors.Is(err, store.ErrConflict) {
				t.Fatal(err)
			}
		}
		return passed
	}
	for round := range 25 {
		a, b, never := "skew/a", "skew/b", fmt.Sprint("skew/", round)
		txn(t, h.Store, put(a, "1"), put(b, "1"))
		if n := both(del(a), del(b)); n != 1 {
			t.Fatalf("round %d: %d writers gave up their key because the other's was there, want 1", round, n)
		}
		txn(t, h.Store, del(a), del(b))
		if n := both(put(a, "1"), put(b, "1")); n != 1 {
			t.Fatalf("round %d: %d writers took their key because the other's was deleted, want 1", round, n)
		}
		if n := both(put(never+"a", "1"), put(never+"b", "1")); n != 1 {
			t.Fatalf("round %d: %d writers took their key because the other's was never there, want 1", round, n)
		}
	}
}

// testFresh reads on one client what another was just told is written: by Get, by List, by a condition, and by
// the first batch of a watch.
func testFresh(t *testing.T, h Harness) {
	for i := range 200 {
		value := strconv.Itoa(i)
		rev := txn(t, h.Peer, put("fresh/k", value))
		switch i % 4 {
		case 0:
			wantValue(t, h.Store, "fresh/k", value)
		case 1:
			entries, err := h.Store.List(soon(t), "fresh/")
			if err != nil || len(entries) != 1 || entries[0].Rev != rev {
				t.Fatalf("write %d is at %d, List gives %+v, %v", i, rev, entries, err)
			}
		case 2:
			if _, err := h.Store.Txn(soon(t), []store.Cond{{Key: "fresh/k", Rev: rev}}, nil); err != nil {
				t.Fatalf("write %d is at %d: %v", i, rev, err)
			}
		case 3:
			f := follow(t, h.Store, "fresh/")
			if !f.step(patience) || f.view["fresh/k"].Rev != rev {
				t.Fatalf("write %d is at %d, the first batch gives %+v", i, rev, f.view)
			}
		}
	}
}
