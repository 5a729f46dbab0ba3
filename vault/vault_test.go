package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
)

func openWriter(t testing.TB, v *Vault, s StreamSpec) *Writer {
	t.Helper()
	w, err := v.Writer(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func appendAll(t testing.TB, w *Writer, recs []journal.Record) {
	t.Helper()
	if seq, err := w.Append(t.Context(), recs); err != nil || seq != recs[len(recs)-1].Seq {
		t.Fatalf("append to %d: %d, %v", recs[len(recs)-1].Seq, seq, err)
	}
}

func checkView(t *testing.T, v *Vault, m *model, stream string, seq uint64) {
	t.Helper()
	w, err := v.View(t.Context(), stream, seq)
	if err != nil {
		t.Fatalf("view at %d: %v", seq, err)
	}
	defer w.Close()
	if err := m.compare(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

func TestEveryPositionReadsBack(t *testing.T) {
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 2))
		v, _ := memoryVault(t, small())
		m := &model{disks: testDisks()}
		w := openWriter(t, v, spec("m-1", 1))
		for range 6 {
			appendAll(t, w, m.more(r, 1+r.IntN(25)))
		}
		for seq := range uint64(len(m.recs) + 1) {
			checkView(t, v, m, "m-1", seq)
		}
	}
}

func TestPointsReadBackThroughCompactionAndPruning(t *testing.T) {
	seeds, rounds := uint64(2), 25
	if testing.Short() {
		seeds, rounds = 1, 12
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3))
		v, s := memoryVault(t, small())
		m := &model{disks: testDisks()}
		w := openWriter(t, v, spec("m-1", 1))
		now := time.Unix(4e9, 0)
		for round := range rounds {
			for range r.IntN(6) {
				appendAll(t, w, m.more(r, 1+r.IntN(20)))
			}
			report, err := v.Compact(t.Context(), "m-1")
			if err != nil || report.Layers > 3 || len(report.Unreachable) > 0 {
				t.Fatalf("seed %d: compact: %+v, %v", seed, report, err)
			}
			if _, err := v.Prune(t.Context(), "m-1", func(p []PointInfo) []bool {
				keep := make([]bool, len(p))
				for i := range p {
					keep[i] = p[i].Seq%7 != uint64(round%7)
				}
				return keep
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := v.Collect(t.Context(), "m-1", now, 0); err != nil {
				t.Fatal(err)
			}
			points, err := v.Points(t.Context(), "m-1")
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range points {
				checkView(t, v, m, "m-1", p.Seq)
			}
			checkView(t, v, m, "m-1", w.Position())
		}
		st, err := v.load(t.Context(), "m-1")
		if err != nil {
			t.Fatal(err)
		}
		all := st.paths()
		for _, p := range st.points {
			steps, ok := all.to(p.Seq)
			if n := len(slices.DeleteFunc(steps, func(s span) bool { return !s.isLayer() })); !ok || n > 3 {
				t.Errorf("seed %d: %d layers under point %d", seed, n, p.Seq)
			}
		}
		// Once nothing is kept but the end, nothing else stays in the store.
		if _, err := v.Prune(t.Context(), "m-1", func(p []PointInfo) []bool { return make([]bool, len(p)) }); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := v.Compact(t.Context(), "m-1"); err != nil {
				t.Fatal(err)
			}
			if _, err := v.Collect(t.Context(), "m-1", now, 0); err != nil {
				t.Fatal(err)
			}
		}
		checkNothingElse(t, v, s)
	}
}

func checkNothingElse(t *testing.T, v *Vault, s objstore.Store) {
	t.Helper()
	st, err := v.load(t.Context(), "m-1")
	if err != nil {
		t.Fatal(err)
	}
	named := st.named()
	named[headKey("m-1")], named[streamKey("m-1", "garbage")] = true, true
	if err := s.List(t.Context(), "streams/", "", func(i objstore.Info) bool {
		if !named[group("m-1", i.Key)] {
			t.Errorf("%s is left", i.Key)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAStaleWriterNeverExtends(t *testing.T) {
	v, _ := memoryVault(t, small())
	m := &model{disks: testDisks()}
	r := rand.New(rand.NewPCG(1, 4))
	old := openWriter(t, v, spec("m-1", 1))
	appendAll(t, old, m.more(r, 10))
	next := openWriter(t, v, spec("m-1", 2))
	stale := (&model{disks: m.disks, recs: slices.Clone(m.recs)}).more(r, 5)
	if _, err := old.Append(t.Context(), stale); !errors.Is(err, ErrFenced) {
		t.Errorf("the old writer: %v", err)
	}
	if _, err := v.Writer(t.Context(), spec("m-1", 1)); !errors.Is(err, ErrFenced) {
		t.Errorf("another writer of the old epoch: %v", err)
	}
	appendAll(t, next, m.more(r, 10))
	same := openWriter(t, v, spec("m-1", 2))
	more := (&model{disks: m.disks, recs: slices.Clone(m.recs)}).more(r, 5)
	if _, err := next.Append(t.Context(), more); !errors.Is(err, ErrFenced) {
		t.Errorf("a replaced writer of the same epoch: %v", err)
	}
	if same.Position() != 20 {
		t.Errorf("the new writer stands at %d", same.Position())
	}
	checkView(t, v, m, "m-1", 20)
}

func TestRepeatedRecordsAreLeftOutAndHolesRefused(t *testing.T) {
	v, _ := memoryVault(t, small())
	m := &model{disks: testDisks()}
	r := rand.New(rand.NewPCG(1, 5))
	w := openWriter(t, v, spec("m-1", 1))
	all := m.more(r, 30)
	appendAll(t, w, all[:20])
	appendAll(t, w, all[5:25])
	if seq, err := w.Append(t.Context(), all[3:9]); seq != 25 || err != nil {
		t.Errorf("old records: %d %v", seq, err)
	}
	if _, err := w.Append(t.Context(), all[27:]); err == nil {
		t.Error("a hole was accepted")
	}
	checkView(t, v, m, "m-1", 25)
}

func point(seq uint64) journal.Record {
	return journal.Record{Seq: seq, Kind: journal.Point, Point: &journal.PointInfo{ID: "p", At: time.Unix(int64(seq), 0).UTC(), Consistency: journal.App}}
}

func seqs(points []PointInfo) []uint64 {
	var out []uint64
	for _, p := range points {
		out = append(out, p.Seq)
	}
	return out
}

func TestNoPointInsideAGap(t *testing.T) {
	for _, foldAt := range []int{1, 2, 100} {
		tuning := small()
		tuning.FoldAt = foldAt
		v, _ := memoryVault(t, tuning)
		w := openWriter(t, v, spec("m-1", 1))
		want := func(valid ...uint64) {
			t.Helper()
			points, err := v.Points(t.Context(), "m-1")
			if err != nil || !slices.Equal(seqs(points), valid) {
				t.Errorf("fold at %d: points %v, want %v (%v)", foldAt, seqs(points), valid, err)
			}
		}
		appendAll(t, w, []journal.Record{{Seq: 1, Kind: journal.GapBegin, From: 1}, point(2)})
		want()
		appendAll(t, w, []journal.Record{{Seq: 3, Kind: journal.GapEnd}, point(4), point(5)})
		want(4, 5)
		appendAll(t, w, []journal.Record{{Seq: 9, Kind: journal.GapBegin, From: 5}, point(10)})
		want(4)
		if _, err := v.View(t.Context(), "m-1", 10); !errors.Is(err, ErrInGap) {
			t.Errorf("view in a gap: %v", err)
		}
		appendAll(t, w, []journal.Record{{Seq: 15, Kind: journal.GapBegin, From: 11}, point(16)})
		want(4)
		appendAll(t, w, []journal.Record{{Seq: 17, Kind: journal.GapEnd}})
		appendAll(t, w, []journal.Record{point(18)})
		want(4, 18)
		if _, err := v.Prune(t.Context(), "m-1", func(p []PointInfo) []bool { return []bool{true, true} }); err != nil {
			t.Fatal(err)
		}
		want(4, 18)
	}
}

func TestBranchReadsThroughItsBase(t *testing.T) {
	v, _ := memoryVault(t, small())
	r := rand.New(rand.NewPCG(1, 6))
	m := &model{disks: testDisks()}
	w := openWriter(t, v, spec("m-1", 1))
	appendAll(t, w, m.more(r, 40))
	branched := spec("m-b1", 2)
	branched.Base = Base{Kind: "stream", Stream: "m-1", Seq: 33}
	b := openWriter(t, v, branched)
	// The branch's truth: the base's records up to 33, then its own, numbered from 1.
	own := &model{disks: testDisks()}
	appendAll(t, b, own.more(r, 20))
	truth := &model{disks: testDisks(), recs: slices.Clone(m.recs[:33])}
	for _, rec := range own.recs {
		rec.Seq += 33
		truth.recs = append(truth.recs, rec)
	}
	for range 5 {
		appendAll(t, w, m.more(r, 30))
		none := func(p []PointInfo) []bool { return make([]bool, len(p)) }
		if _, err := v.Prune(t.Context(), "m-1", none); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Compact(t.Context(), "m-1"); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Collect(t.Context(), "m-1", time.Unix(4e9, 0), 0); err != nil {
			t.Fatal(err)
		}
		view, err := v.View(t.Context(), "m-b1", 20)
		if err != nil {
			t.Fatal(err)
		}
		view.seq = 53
		if err := truth.compare(t.Context(), view); err != nil {
			t.Fatal(err)
		}
		view.Close()
	}
	if err := v.Release(t.Context(), "m-1", "m-b1"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Compact(t.Context(), "m-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.View(t.Context(), "m-b1", 20); !errors.Is(err, ErrNotKept) {
		t.Errorf("after the base let go: %v", err)
	}
}

func TestExtentsAndChangedAreTheModel(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 7))
		v, _ := memoryVault(t, small())
		m := &model{disks: testDisks()}
		w := openWriter(t, v, spec("m-1", 1))
		for range 8 {
			appendAll(t, w, m.more(r, 12))
		}
		since := uint64(r.IntN(len(m.recs)))
		if seed%2 == 0 {
			if _, err := v.Compact(t.Context(), "m-1"); err != nil {
				t.Fatal(err)
			}
		}
		view, err := v.View(t.Context(), "m-1", w.Position())
		if err != nil {
			t.Fatal(err)
		}
		want := m.at(w.Position())
		for i := range view.Disks() {
			checkExtents(t, view.Disk(i), want[i])
			checkChanged(t, view.Disk(i), m, i, since, seed%2 == 1)
		}
		view.Close()
	}
}

func checkExtents(t *testing.T, d *ViewDisk, want []byte) {
	t.Helper()
	at, lastZero := int64(512), 2
	err := d.Extents(t.Context(), 512, d.Size(), func(off, n int64, zero bool) bool {
		kind := 0
		if zero {
			kind = 1
		}
		if off != at || n <= 0 || kind == lastZero {
			t.Errorf("extent [%d, +%d) after %d", off, n, at)
		}
		if zero && slices.ContainsFunc(want[off:off+n], func(b byte) bool { return b != 0 }) {
			t.Errorf("[%d, +%d) is not zero", off, n)
		}
		at, lastZero = off+n, kind
		return true
	})
	if err != nil || at != d.Size() {
		t.Errorf("extents end at %d: %v", at, err)
	}
}

func checkChanged(t *testing.T, d *ViewDisk, m *model, disk int, since uint64, exact bool) {
	t.Helper()
	got := make([]bool, blocks)
	if err := d.Changed(t.Context(), since, func(off, n int64) bool {
		for b := off / 512; b < (off+n)/512; b++ {
			got[b] = true
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	want := make([]bool, blocks)
	for _, r := range m.recs {
		for b := r.Off / 512; b < r.End()/512 && int(r.Disk) == disk; b++ {
			want[b] = want[b] || r.Seq > since
		}
	}
	for b := range want {
		if want[b] && !got[b] || exact && got[b] != want[b] {
			t.Errorf("sector %d changed after %d: %t, reported: %t", b, since, want[b], got[b])
		}
	}
}

func TestAViewEndsWithItsPin(t *testing.T) {
	now := time.Unix(1e9, 0)
	id := testKey(t)
	_, s := memoryVault(t, small())
	if err := s.Delete(t.Context(), rootKey); err != nil {
		t.Fatal(err)
	}
	v, err := Create(t.Context(), s, id.Recipient().String(), Options{Identity: id, Tuning: small(), Now: func() time.Time { return now }, Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	m := &model{disks: testDisks()}
	w := openWriter(t, v, spec("m-1", 1))
	appendAll(t, w, m.more(rand.New(rand.NewPCG(1, 8)), 30))
	view, err := v.View(t.Context(), "m-1", 30)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(50 * time.Minute)
	if err := view.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(50 * time.Minute)
	if err := m.compare(t.Context(), view); err != nil {
		t.Error(err)
	}
	now = now.Add(11 * time.Minute)
	if err := m.compare(t.Context(), view); !errors.Is(err, ErrPinLost) {
		t.Errorf("read without a pin: %v", err)
	}
	if err := view.Close(); err != nil || view.Close() != nil {
		t.Errorf("close: %v", err)
	}
	if err := s.List(t.Context(), "streams/m-1/pins/", "", func(i objstore.Info) bool { t.Errorf("%s is left", i.Key); return true }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.View(ctx, "m-1", 30); err == nil {
		t.Error("opened without a context")
	}
}
