package replication

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// beginWriter commits in order while later ones wait; once one fails, those behind it fail.
type beginWriter struct {
	*fakeWriter
	before   chan struct{} // closed when the one before has ended
	failed   *atomic.Bool
	under    *atomic.Int64 // ways under way
	together *atomic.Int64 // the most at once
}

func (w *beginWriter) Begin(ctx context.Context, recs []journal.Record) (func() (uint64, error), error) {
	before, mine := w.before, make(chan struct{})
	w.before = mine
	w.together.Store(max(w.together.Load(), w.under.Add(1)))
	return func() (uint64, error) {
		defer close(mine)
		defer w.under.Add(-1)
		<-before
		if w.failed.Load() {
			return w.Position(), errors.New("the one before failed")
		}
		committed, err := w.Append(ctx, recs)
		if err != nil {
			w.failed.Store(true)
		}
		return committed, err
	}, nil
}

func (w *beginWriter) Uploaded() int64 { return int64(w.Position()) * 100 }

func TestABeginnersAppendsOverlapAndStayInOrder(t *testing.T) {
	s := newSite(t)
	s.vault.delay = 2 * time.Millisecond
	s.vault.fail = func() (error, bool) {
		if rand.N(30) == 0 {
			return errors.New("the object store does not answer"), rand.N(2) == 0
		}
		return nil, false
	}
	var under, together atomic.Int64
	cfg := s.serverConfig(fastDir(t))
	cfg.SegmentBytes = 8 << 10
	cfg.OpenStream = func(ctx context.Context, i StreamInfo) (Appender, error) {
		a, err := s.vault.open(ctx, i)
		if err != nil {
			return nil, err
		}
		first := make(chan struct{})
		close(first)
		under.Store(0)
		return &beginWriter{a.(*fakeWriter), first, &atomic.Bool{}, &under, &together}, nil
	}
	ps, at, _ := serve(t, cfg, "")
	src := newFakeSource(64, 100000)
	sc := s.senderConfig(src, at)
	sc.BatchBytes = 8 << 10
	send(t, sc)
	for range 5000 {
		src.write(rand.N(64))
	}
	eventually(t, "quiet", src.quiet)
	s.vault.check(t, s.info.Stream, src)
	if together.Load() != pipeDepth {
		t.Errorf("%d appends at once, want %d", together.Load(), pipeDepth)
	}
	if c := ps.Status().Machines[0].Counters; c.Retries == 0 || c.UploadedBytes == 0 || src.gaps != 0 {
		t.Errorf("%+v, %d gaps", c, src.gaps)
	}
}

func TestBandwidthHoldsAppendsBack(t *testing.T) {
	s := newSite(t)
	cfg := s.serverConfig(fastDir(t))
	cfg.SegmentBytes = 16 << 10
	ps, at, _ := serve(t, cfg, "")
	ps.SetBandwidth(nil, map[string][]Window{s.info.Stream: {{Kbps: Stop}}})
	src := newFakeSource(64, 100000)
	sc := s.senderConfig(src, at)
	sc.BatchBytes = 16 << 10
	snd := send(t, sc)
	for range 1000 {
		src.write(rand.N(64))
	}
	eventually(t, "spooled", func() bool { return snd.Status().Spooled == 1000 })
	if st := snd.Status().Stored; st != 0 {
		t.Errorf("%d stored in a window that stops", st)
	}
	ps.SetBandwidth([]Window{{Kbps: 1600}}, nil) // 200,000 bytes a second for 560,000
	began := time.Now()
	eventually(t, "quiet", src.quiet)
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("560,000 bytes at 200,000 a second took %s", took)
	}
	s.vault.check(t, s.info.Stream, src)
}
