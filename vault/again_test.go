package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/objstore"
)

// awayStore can be out of reach.
type awayStore struct {
	objstore.Store
	away atomic.Bool
}

func (s *awayStore) gone(op, key string) error {
	if s.away.Load() {
		return &objstore.Error{Op: op, Key: key, Kind: objstore.ErrUnavailable}
	}
	return nil
}

func (s *awayStore) Get(ctx context.Context, key string) ([]byte, objstore.Tag, error) {
	if err := s.gone("get", key); err != nil {
		return nil, "", err
	}
	return s.Store.Get(ctx, key)
}

func (s *awayStore) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := s.gone("get range of", key); err != nil {
		return nil, err
	}
	return s.Store.GetRange(ctx, key, off, n)
}

// TestAViewOutlivesItsPin: a machine that runs on a view while the vault is out of reach for longer than a pin lasts, or whose host slept, has
// its disks again once the vault is back, also where a compaction has replaced what it read.
func TestAViewOutlivesItsPin(t *testing.T) {
	var now atomic.Int64
	now.Store(1e9)
	id := testKey(t)
	_, inner := memoryVault(t, small())
	if err := inner.Delete(t.Context(), rootKey); err != nil {
		t.Fatal(err)
	}
	s := &awayStore{Store: inner}
	tune := small()
	tune.Quiet = false
	v, err := Create(t.Context(), s, id.Recipient().String(), Options{Identity: id, Tuning: tune, Now: func() time.Time { return time.Unix(now.Load(), 0) }})
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
	disk := view.Disk(0) // as a volume holds it
	p := make([]byte, 4096)
	for round := range 3 {
		now.Add(2 * 3600)
		if round == 1 {
			if _, err := v.Compact(t.Context(), "m-1"); err != nil {
				t.Fatal(err)
			}
		}
		s.away.Store(true)
		if _, err := disk.ReadAt(t.Context(), p, 0); !errors.Is(err, ErrPinLost) || !errors.Is(err, objstore.ErrUnavailable) {
			t.Errorf("read without a vault: %v", err)
		}
		s.away.Store(false)
		if _, err := disk.ReadAt(t.Context(), p, 0); err != nil {
			t.Errorf("read when the vault is back: %v", err)
		}
		if err := m.compare(t.Context(), view); err != nil {
			t.Error(err)
		}
		live := 0
		if err := inner.List(t.Context(), "streams/m-1/pins/", "", func(i objstore.Info) bool {
			b, _, err := inner.Get(t.Context(), i.Key)
			if err != nil {
				t.Fatal(err)
			}
			if p, err := decodePin(i.Key, b); err == nil && p.Expires.After(time.Unix(now.Load(), 0)) {
				live++
			}
			return true
		}); err != nil || live != 1 {
			t.Errorf("%d live pins, %v", live, err)
		}
	}
	if err := view.Close(); err != nil || view.Close() != nil {
		t.Errorf("close: %v", err)
	}
	if err := inner.List(t.Context(), "streams/m-1/pins/", "", func(i objstore.Info) bool { t.Errorf("%s is left", i.Key); return true }); err != nil {
		t.Error(err)
	}
	if _, err := disk.ReadAt(t.Context(), p, 0); !errors.Is(err, ErrPinLost) {
		t.Errorf("read after close: %v", err)
	}
}
