package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// fakeVault keeps streams in a directory: a log of batches, and who may write. It outlives a kill, and works for several processes.
type fakeVault struct {
	dir string
	// fail, if set, is asked before an append; an error with lost=true is given after the append took effect.
	fail  func() (err error, lost bool)
	delay time.Duration
	// beforeHead is called when the records are written and do not count yet.
	beforeHead func()
	appends    atomic.Int64
}

type vaultHead struct {
	Epoch  uint64
	Writer int64
	Bytes  int64 // of the log that count
	Seq    uint64
}

// locked runs f with the head of a stream, and stores the head if f changes it.
func (v *fakeVault) locked(stream string, f func(h *vaultHead) error) error {
	lock, err := os.OpenFile(filepath.Join(v.dir, stream+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	var h vaultHead
	path := filepath.Join(v.dir, stream+".head")
	if b, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(b, &h); err != nil {
			return err
		}
	}
	before := h
	if err := f(&h); err != nil || h == before {
		return err
	}
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (v *fakeVault) open(_ context.Context, info StreamInfo) (Appender, error) {
	w := &fakeWriter{v: v, info: info, id: time.Now().UnixNano()}
	if v.fail != nil {
		if err, _ := v.fail(); err != nil {
			return nil, err
		}
	}
	return w, v.locked(info.Stream, func(h *vaultHead) error {
		if h.Epoch > info.Epoch {
			return fmt.Errorf("epoch %d stands in the head: %w", h.Epoch, ErrFenced)
		}
		h.Epoch, h.Writer = info.Epoch, w.id
		w.pos.Store(h.Seq)
		return nil
	})
}

func (v *fakeVault) log(stream string) string { return filepath.Join(v.dir, stream+".log") }

// records gives what counts of a stream.
func (v *fakeVault) records(t testing.TB, stream string) (out []journal.Record) {
	t.Helper()
	err := v.locked(stream, func(h *vaultHead) error {
		b, err := os.ReadFile(v.log(stream))
		if err != nil {
			return err
		}
		for b = b[:h.Bytes]; len(b) > 0; {
			batch, rest, err := journal.SplitBatch(b)
			if err != nil {
				return err
			}
			recs, err := journal.DecodeBatch(batch)
			if err != nil {
				return err
			}
			out, b = append(out, recs...), rest
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

type fakeWriter struct {
	v    *fakeVault
	info StreamInfo
	id   int64
	pos  atomic.Uint64
}

func (w *fakeWriter) Position() uint64 { return w.pos.Load() }
func (w *fakeWriter) Close() error     { return nil }

func (w *fakeWriter) Append(ctx context.Context, recs []journal.Record) (uint64, error) {
	w.v.appends.Add(1)
	var failed error
	if w.v.fail != nil {
		err, lost := w.v.fail()
		if err != nil && !lost {
			return w.pos.Load(), err
		}
		failed = err
	}
	if w.v.delay > 0 {
		if err := sleep(ctx, w.v.delay); err != nil {
			return w.pos.Load(), err
		}
	}
	b, err := journal.AppendBatch(nil, recs)
	if err != nil {
		return w.pos.Load(), err
	}
	err = w.v.locked(w.info.Stream, func(h *vaultHead) error {
		if h.Writer != w.id {
			return ErrFenced
		}
		if !journal.Follows(h.Seq, &recs[0]) {
			return fmt.Errorf("BUG: record %d appended after %d", recs[0].Seq, h.Seq)
		}
		f, err := os.OpenFile(w.v.log(w.info.Stream), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.WriteAt(b, h.Bytes); err != nil {
			return err
		}
		if w.v.beforeHead != nil {
			w.v.beforeHead()
		}
		h.Bytes += int64(len(b))
		h.Seq = recs[len(recs)-1].Seq
		w.pos.Store(h.Seq)
		return nil
	})
	return w.pos.Load(), errors.Join(err, failed)
}

// check holds the stream in the vault against its source, once quiet: no position is missing outside a gap, points lie outside
// gaps, and the image that it makes is the source's disk.
func (v *fakeVault) check(t testing.TB, stream string, s *fakeSource) {
	t.Helper()
	recs := v.records(t, stream)
	image := make([]uint64, len(s.disk))
	var last uint64
	inGap := false
	for i := range recs {
		r := &recs[i]
		if !journal.Follows(last, r) {
			t.Fatalf("record %d (%s) stands after %d", r.Seq, r.Kind, last)
		}
		last = r.Seq
		switch r.Kind {
		case journal.GapBegin:
			inGap = true
		case journal.GapEnd:
			inGap = false
		case journal.Write:
			n := le.Uint64(r.Data)
			image[r.Off/int64(s.size)] = n
			if !inGap && r.Flags&journal.Resync != 0 {
				t.Fatalf("record %d was read again outside a gap", r.Seq)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if inGap || last != s.seq {
		t.Fatalf("the stream ends at %d (in a gap: %t), the source is at %d", last, inGap, s.seq)
	}
	for i := range image {
		if image[i] != s.disk[i] {
			t.Fatalf("block %d has write %d, the source %d", i, image[i], s.disk[i])
		}
	}
}
