package disk

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	const size = 64 << 20
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Truncate(path, size)
	f, err := nbd.OpenFile(path, nbd.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(Config{Dir: filepath.Join(dir, "cap"), Stream: "u-1", Epoch: 1, Access: Writable, ZeroBase: true, Disks: []DiskConfig{{ID: "a", Lower: f}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	image := make([]byte, size)
	done := make(chan uint64, 1)
	target := make(chan uint64, 1)
	go func() {
		var last, want uint64
		for want == 0 || last < want {
			c, stop := context.WithTimeout(ctx, 100*time.Millisecond)
			recs, err := m.Next(c)
			stop()
			if err != nil && ctx.Err() != nil {
				break
			}
			for _, r := range recs {
				if !journal.Follows(last, &r) {
					t.Errorf("%d after %d", r.Seq, last)
				}
				last = r.Seq
				switch r.Kind {
				case journal.Write:
					copy(image[r.Off:], r.Data)
				case journal.Zero:
					clear(image[r.Off:r.End()])
				}
			}
			m.Release(last)
			m.Stored(last)
			select {
			case want = <-target:
			default:
			}
		}
		done <- last
	}()
	b := m.Backend("a")
	r := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 8192)
	for i := range 20000 {
		p[i%len(p)]++
		if err := b.WriteAt(ctx, p, int64(r.IntN(size/8192))*8192, false); err != nil {
			t.Fatal(err)
		}
	}
	b.Flush(ctx)
	for m.Position().InGap {
		time.Sleep(time.Millisecond)
	}
	seq, err := m.Point(ctx, journal.PointInfo{ID: "p", Consistency: journal.Crash})
	if err != nil {
		t.Fatal(err)
	}
	target <- seq
	<-done
	got, _ := os.ReadFile(path)
	if !bytes.Equal(got, image) {
		t.Error("images differ")
	}
	if p := m.Position(); !p.Counters.Hold() || p.Counters.Captured != 20000 {
		t.Errorf("%+v", p)
	}
	t.Logf("%+v %v", m.Position(), m.DirtyRanges())
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	_ = capture.ErrClosed
}
