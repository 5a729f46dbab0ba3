package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/memory"
)

// The model is the truth about a stream: its records, and from them the disks at any position.
type model struct {
	disks []Disk
	recs  []journal.Record
}

const blocks = 300 // sectors of each disk

func testDisks() []Disk {
	return []Disk{{ID: "root", Size: blocks * journal.Sector}, {ID: "data", Size: blocks * journal.Sector}}
}

// more appends n random records, points among them, and gives them.
func (m *model) more(r *rand.Rand, n int) []journal.Record {
	from := len(m.recs)
	for range n {
		seq := uint64(len(m.recs) + 1)
		rec := journal.Record{Seq: seq, Disk: uint16(r.IntN(len(m.disks))), Time: int64(seq), Kind: journal.Write,
			Off: int64(r.IntN(blocks-16)) * journal.Sector, Len: int64(1+r.IntN(15)) * journal.Sector}
		switch k := r.IntN(20); {
		case k < 14:
			rec.Data = make([]byte, rec.Len)
			for i := 0; i < len(rec.Data); i += 8 {
				binary.LittleEndian.PutUint64(rec.Data[i:], seq)
			}
		case k < 16:
			rec.Kind = journal.Zero
		case k < 17:
			rec = journal.Record{Seq: seq, Kind: journal.Flush}
		default:
			rec = journal.Record{Seq: seq, Kind: journal.Point, Point: &journal.PointInfo{ID: fmt.Sprint("p", seq), At: time.Unix(int64(seq), 0).UTC(),
				Consistency: journal.Crash}}
		}
		m.recs = append(m.recs, rec)
	}
	return m.recs[from:]
}

// at is the disks' bytes at a position.
func (m *model) at(seq uint64) [][]byte {
	out := make([][]byte, len(m.disks))
	for i, d := range m.disks {
		out[i] = make([]byte, d.Size)
	}
	for _, r := range m.recs {
		if r.Seq > seq {
			break
		}
		switch r.Kind {
		case journal.Write:
			copy(out[r.Disk][r.Off:], r.Data)
		case journal.Zero:
			clear(out[r.Disk][r.Off:r.End()])
		}
	}
	return out
}

// compare reads a whole view against the model.
func (m *model) compare(ctx context.Context, w *View) error {
	want := m.at(w.Seq())
	for i := range w.Disks() {
		d := w.Disk(i)
		got := make([]byte, d.Size())
		if _, err := d.ReadAt(ctx, got, 0); err != nil {
			return err
		}
		if !bytes.Equal(got, want[i]) {
			at := 0
			for got[at] == want[i][at] {
				at++
			}
			return fmt.Errorf("disk %d at %d: byte %d is %d, should be %d", i, w.Seq(), at, got[at], want[i][at])
		}
	}
	return nil
}

func testKey(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// small makes every threshold small, so that little data meets all of them.
func small() Tuning {
	return Tuning{SegmentRaw: 8 << 10, FoldAt: 3, CheckpointSegs: 4, MaxLayers: 3, PartBytes: 8 << 10, PartExtents: 7, PinFor: time.Hour, Quiet: true}
}

func testVault(t testing.TB, s objstore.Store, tuning Tuning) *Vault {
	t.Helper()
	id := testKey(t)
	v, err := Create(t.Context(), s, id.Recipient().String(), Options{Identity: id, Tuning: tuning, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func memoryVault(t testing.TB, tuning Tuning) (*Vault, objstore.Store) {
	s := memory.New(nil)
	return testVault(t, s, tuning), s
}

func spec(id string, epoch uint64) StreamSpec {
	return StreamSpec{ID: id, Epoch: epoch, Machine: Machine{UID: "m"}, Disks: testDisks()}
}
