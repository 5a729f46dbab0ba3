package vault

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/understudy-ha/understudy/journal"
)

// replay plays a dm-log-writes log, as the kernel's documentation describes it, up to a mark.
func replay(t *testing.T, log []byte, size int64, mark string) []byte {
	t.Helper()
	image := make([]byte, size)
	if le.Uint64(log) != 0x6a736677736872 || le.Uint64(log[8:]) != 1 || le.Uint32(log[24:]) != 512 {
		t.Fatalf("super block %x", log[:32])
	}
	pos := 512
	for range le.Uint64(log[16:]) {
		off, n, flags := int64(le.Uint64(log[pos:]))*512, int64(le.Uint64(log[pos+8:]))*512, le.Uint64(log[pos+16:])
		text := log[pos+32 : pos+32+int(le.Uint64(log[pos+24:]))]
		pos += 512
		switch {
		case flags&8 != 0 && string(text) == mark:
			return image
		case flags&4 != 0:
			clear(image[off : off+n])
		case n > 0:
			copy(image[off:], log[pos:pos+int(n)])
			pos += int(n)
		}
	}
	t.Fatalf("no mark %q", mark)
	return nil
}

func TestExports(t *testing.T) {
	v, _ := memoryVault(t, Tuning{SegmentRaw: 8 << 10, FoldAt: 3, Quiet: true})
	m := &model{disks: testDisks()}
	w := openWriter(t, v, spec("m-1", 1))
	r := rand.New(rand.NewPCG(3, 11))
	for range 10 {
		appendAll(t, w, m.more(r, 12))
	}
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := v.ExportLog(t.Context(), "m-1", 1, w.Position(), f); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	points, err := v.Points(t.Context(), "m-1")
	if err != nil || len(points) == 0 {
		t.Fatal(len(points), err)
	}
	for _, p := range points {
		want := m.at(p.Seq)[1]
		if !bytes.Equal(replay(t, log, int64(len(want)), p.ID), want) {
			t.Errorf("the log at %s is another disk", p.ID)
		}
		raw, err := os.Create(filepath.Join(t.TempDir(), "raw"))
		if err != nil {
			t.Fatal(err)
		}
		view, err := v.View(t.Context(), "m-1", p.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(view.ExportRaw(t.Context(), 1, raw, nil), view.Close()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(raw.Name())
		if raw.Close(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the image at %s differs: %v", p.ID, err)
		}
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	v, _ := memoryVault(t, small())
	m := &model{disks: testDisks()}
	w := openWriter(t, v, spec("m-1", 1))
	r := rand.New(rand.NewPCG(4, 11))
	for range 10 {
		appendAll(t, w, m.more(r, 12))
	}
	var got []uint64
	if err := v.Records(t.Context(), "m-1", 17, 60, func(r *journal.Record) error {
		got = append(got, r.Seq)
		if !bytes.Equal(r.Data, m.recs[r.Seq-1].Data) {
			t.Errorf("record %d differs", r.Seq)
		}
		return nil
	}); err != nil || len(got) != 43 || got[0] != 18 || !slices.IsSorted(got) {
		t.Errorf("%v %v", got, err)
	}
	none := func(p []PointInfo) []bool { return make([]bool, len(p)) }
	if _, err := v.Prune(t.Context(), "m-1", none); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Compact(t.Context(), "m-1"); err != nil {
		t.Fatal(err)
	}
	if err := v.Records(t.Context(), "m-1", 17, 60, func(*journal.Record) error { return nil }); !errors.Is(err, ErrNotKept) {
		t.Errorf("merged records: %v", err)
	}
}
