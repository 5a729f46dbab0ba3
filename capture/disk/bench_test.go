package disk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/nbd"
)

// benchDisk is a file of 1 GiB, written through once, and the same captured, with a far side that takes everything at once.
func benchDisk(b *testing.B) (plain, captured nbd.Backend, m *Machine) {
	b.Helper()
	dir := b.TempDir()
	path := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(path, make([]byte, 1<<30), 0o600); err != nil {
		b.Fatal(err)
	}
	lower, err := nbd.OpenFile(path, nbd.FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	m, err = Open(Config{
		Dir: filepath.Join(dir, "capture"), Stream: "u-1", Epoch: 1, Access: Writable, Initial: []capture.Range{},
		Disks: []DiskConfig{{ID: "a", Lower: lower}},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for {
			recs, err := m.Next(ctx)
			if err != nil {
				return
			}
			m.Stored(recs[len(recs)-1].Seq)
		}
	}()
	b.Cleanup(func() { cancel(); <-drained; m.Close(); lower.Close() })
	for m.Position().InGap {
		time.Sleep(time.Millisecond)
	}
	return lower, m.Backend("a"), m
}

// BenchmarkCost writes to the lower disk and through the capture in turn (ABBA), and tells the ratio of throughputs, and
// the share of rounds with a gap.
func BenchmarkCost(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			plain, captured, m := benchDisk(b)
			p, r := make([]byte, size), rand.New(rand.NewPCG(1, 1))
			round := func(d nbd.Backend) float64 {
				n := 64 << 20 / size / 4
				began := time.Now()
				for range n {
					if err := d.WriteAt(b.Context(), p, r.Int64N(1<<30/int64(size))*int64(size), false); err != nil {
						b.Fatal(err)
					}
				}
				return float64(n) / time.Since(began).Seconds()
			}
			round(captured) // all extents become hot
			var ratios []float64
			gaps := 0
			for b.Loop() {
				p1, c1, c2, p2 := round(plain), round(captured), round(captured), round(plain)
				ratios = append(ratios, (c1+c2)/(p1+p2))
				if m.Position().InGap {
					gaps++
				}
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
			b.ReportMetric(float64(gaps)/float64(len(ratios)), "gaps")
		})
	}
}

// BenchmarkOffered offers a fixed load, and tells how much of it was carried out.
func BenchmarkOffered(b *testing.B) {
	for _, load := range []struct{ size, perSecond int }{{4 << 10, 5000}, {1 << 20, 100}} {
		b.Run(fmt.Sprint(load.size>>10, "KiB at ", load.perSecond), func(b *testing.B) {
			plain, captured, m := benchDisk(b)
			p, r := make([]byte, load.size), rand.New(rand.NewPCG(1, 1))
			offer := func(d nbd.Backend) (achieved float64, p99 time.Duration) {
				const seconds = 0.5
				var took []time.Duration
				began := time.Now()
				n := int(seconds * float64(load.perSecond))
				for i := range n {
					due := began.Add(time.Duration(i) * time.Second / time.Duration(load.perSecond))
					time.Sleep(time.Until(due))
					at := time.Now()
					if err := d.WriteAt(b.Context(), p, r.Int64N(1<<30/int64(load.size))*int64(load.size), false); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(at))
				}
				slices.Sort(took)
				return float64(n) / time.Since(began).Seconds() / float64(load.perSecond), took[n*99/100]
			}
			offer(captured)
			var share, tail []float64
			for b.Loop() {
				a, ap := offer(plain)
				c, cp := offer(captured)
				share, tail = append(share, c/a), append(tail, float64(cp)/float64(ap))
				if m.Position().InGap {
					b.Error("a gap")
				}
			}
			slices.Sort(share)
			slices.Sort(tail)
			b.ReportMetric(share[len(share)/2], "throughput-ratio")
			b.ReportMetric(tail[len(tail)/2], "p99-ratio")
		})
	}
}
