package vault

import (
	"math/rand/v2"
	"testing"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore/dir"
)

// benchVault is a stream of random 4 KiB writes, partly in layers, partly in segments, in a directory.
func benchVault(b *testing.B, cache string, bytes int64) (*Vault, uint64) {
	b.Helper()
	s, err := dir.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	v := testVault(b, s, Tuning{Quiet: true, CheckpointSegs: 16})
	v.opt.Cache, v.opt.CacheBytes = cache, 4<<30
	w := openWriter(b, v, StreamSpec{ID: "m-1", Epoch: 1, Machine: Machine{UID: "m"}, Disks: []Disk{{ID: "root", Size: 1 << 30}}})
	r := rand.New(rand.NewPCG(1, 13))
	seq := uint64(0)
	for left := bytes; left > 0; {
		var recs []journal.Record
		for range 1000 {
			seq++
			data := make([]byte, 4096)
			for i := 0; i < len(data); i += 16 {
				le.PutUint64(data[i:], r.Uint64())
			}
			recs = append(recs, journal.Record{Seq: seq, Kind: journal.Write, Off: r.Int64N(1<<18) * 4096, Len: 4096, Data: data})
			left -= 4096
		}
		appendAll(b, w, recs)
		if seq%16000 == 0 {
			if _, err := v.Compact(b.Context(), "m-1"); err != nil {
				b.Fatal(err)
			}
		}
	}
	return v, seq
}

// BenchmarkWarmRead reads 4 KiB at random places of a view whose blocks are in a cache on disk.
func BenchmarkWarmRead(b *testing.B) {
	v, seq := benchVault(b, b.TempDir(), 256<<20)
	view, err := v.View(b.Context(), "m-1", seq)
	if err != nil {
		b.Fatal(err)
	}
	defer view.Close()
	d := view.Disk(0)
	all := make([]byte, 1<<20)
	for off := int64(0); off < d.Size(); off += int64(len(all)) {
		if _, err := d.ReadAt(b.Context(), all, off); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(4096)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		r, p := rand.New(rand.NewPCG(rand.Uint64(), 1)), make([]byte, 4096)
		for pb.Next() {
			if _, err := d.ReadAt(b.Context(), p, r.Int64N(1<<18)*4096); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAppend stores batches of 4 MiB of half compressible 4 KiB writes.
func BenchmarkAppend(b *testing.B) {
	s, err := dir.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	v := testVault(b, s, Tuning{Quiet: true})
	w := openWriter(b, v, StreamSpec{ID: "m-1", Epoch: 1, Machine: Machine{UID: "m"}, Disks: []Disk{{ID: "root", Size: 1 << 30}}})
	r := rand.New(rand.NewPCG(1, 13))
	data := make([]byte, 4096)
	for i := 0; i < len(data); i += 16 {
		le.PutUint64(data[i:], r.Uint64())
	}
	b.SetBytes(4 << 20)
	seq := uint64(0)
	for b.Loop() {
		recs := make([]journal.Record, 1024)
		for i := range recs {
			seq++
			recs[i] = journal.Record{Seq: seq, Kind: journal.Write, Off: r.Int64N(1<<18) * 4096, Len: 4096, Data: data}
		}
		appendAll(b, w, recs)
	}
}
