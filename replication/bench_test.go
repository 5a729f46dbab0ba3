package replication

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/dir"
	"github.com/understudy-ha/understudy/pki"
)

// halfRandom is disk data as it hardly compresses: every second kilobyte is random.
func halfRandom(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 1024 {
		for j := i; j < min(i+512, n); j += 8 {
			le.PutUint64(b[j:], rand.Uint64())
		}
	}
	return b
}

// benchRecords are writes of 64 KiB, 8 MiB in all, from a position on.
func benchRecords(first uint64) []journal.Record {
	data := halfRandom(64 << 10)
	var recs []journal.Record
	for i := range uint64(128) {
		recs = append(recs, journal.Record{Seq: first + i, Kind: journal.Write, Off: int64(rand.N(1<<14)) << 16, Len: int64(len(data)), Data: data})
	}
	return recs
}

// benchSource gives n times 8 MiB as fast as they are taken, with a bound on what is not spooled.
type benchSource struct {
	total, next uint64
	released    chan uint64
	upTo        uint64
	recs        []journal.Record
	stored      chan struct{}
	once        sync.Once
}

func (s *benchSource) Next(ctx context.Context) ([]journal.Record, error) {
	for s.next > s.total || s.next > s.upTo+1024 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case s.upTo = <-s.released:
		}
	}
	out := make([]journal.Record, 16)
	for i := range out {
		out[i] = s.recs[(s.next-1)%uint64(len(s.recs))]
		out[i].Seq = s.next
		s.next++
	}
	return out, nil
}

func (s *benchSource) Release(upTo uint64) {
	select {
	case <-s.released:
	default:
	}
	s.released <- upTo
}

func (s *benchSource) Stored(upTo uint64) {
	if upTo == s.total {
		s.once.Do(func() { close(s.stored) })
	}
}

func (s *benchSource) Rewind(uint64) bool { return true }

// BenchmarkPipeline ships 8 MiB an operation from a source to a vault on a directory in memory; its parts stand beside it.
func BenchmarkPipeline(b *testing.B) {
	identity, err := age.GenerateX25519Identity()
	must(b, err)
	b.Run("framing", func(b *testing.B) {
		recs := benchRecords(1)
		b.SetBytes(8 << 20)
		for b.Loop() {
			batch, err := journal.AppendBatch(nil, recs)
			must(b, err)
			_, err = journal.DecodeBatch(batch)
			must(b, err)
		}
	})
	b.Run("seal", func(b *testing.B) {
		recs := benchRecords(1)
		b.SetBytes(8 << 20)
		for b.Loop() {
			_, err := journal.SealSegment(journal.Binding{Vault: "v", Stream: "u1-1", Epoch: 1}, recs, identity.Recipient())
			must(b, err)
		}
	})
	b.Run("put", func(b *testing.B) {
		store, err := dir.Open(context.Background(), fastDir(b))
		must(b, err)
		defer store.Close()
		data := halfRandom(4 << 20) // what 8 MiB become
		b.SetBytes(8 << 20)
		for i := 0; b.Loop(); i++ {
			_, err := store.Put(context.Background(), fmt.Sprintf("s/%d", i), data, objstore.IfAbsent)
			must(b, err)
			must(b, store.Delete(context.Background(), fmt.Sprintf("s/%d", i)))
		}
	})
	b.Run("spool", func(b *testing.B) {
		recs := benchRecords(1)
		batch, err := journal.AppendBatch(nil, recs[:16]) // as the source gives them
		must(b, err)
		dir := fastDir(b)
		sp, err := createSpool(filepath.Join(dir, "u1-1"), newBudget(dir, 1<<40, 0), 64<<20, exampleInfo, 0)
		must(b, err)
		defer sp.close()
		b.SetBytes(8 << 20)
		last := uint64(0)
		for b.Loop() {
			for range len(recs) / 16 {
				last += 16
				if !sp.room.take(int64(frameHead + len(batch))) {
					b.Fatal("no room")
				}
				must(b, sp.append(batch, last, time.Unix(1, 0)))
				must(b, sp.sync())
			}
			must(b, sp.discard(last, true)) // stored
		}
	})
	b.Run("all", func(b *testing.B) {
		s := newSite(b)
		v, err := openRealVault(fastDir(b), identity.Recipient().String(), nil, nil)
		must(b, err)
		cfg := s.serverConfig(filepath.Join(fastDir(b), "spool"))
		cfg.OpenStream, cfg.SegmentAge = v.open, 0
		_, at, _ := serve(b, cfg, "")
		n := uint64(b.N)
		src := &benchSource{total: n * 128, next: 1, released: make(chan uint64, 1), recs: benchRecords(1), stored: make(chan struct{})}
		b.SetBytes(8 << 20)
		b.ResetTimer()
		began := time.Now()
		send(b, SenderConfig{Source: src, Lag: func() Lag { return Lag{} }, Stream: s.info, Targets: []Target{{Address: at}}, CA: s.ca.Cert,
			Cert: s.holder(pki.Node("default", "host1")), Log: quietLog()})
		<-src.stored
		b.ReportMetric(float64(n*8)/time.Since(began).Seconds(), "MiB/s")
		b.StopTimer()
	})
}
