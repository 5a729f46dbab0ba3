package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/store"
)

// BenchmarkTxn measures one writer that changes one key under a condition, as a lease renewal does, and
// reports the median and the 99th percentile besides the mean.
func BenchmarkTxn(b *testing.B, s store.Store) {
	ctx := b.Context()
	var rev store.Rev
	if e, err := s.Get(ctx, "bench"); err == nil {
		rev = e.Rev
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		op := store.Op{Key: "bench", Value: fmt.Appendf(nil, `{"renewed":%d}`, i)}
		revs, err := s.Txn(ctx, []store.Cond{{Key: "bench", Rev: rev}}, []store.Op{op})
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
		rev = revs[0]
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
}
