package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/faulty"
	"github.com/understudy-ha/understudy/objstore/memory"
	"github.com/understudy-ha/understudy/objstore/objtest"
	"github.com/understudy-ha/understudy/objstore/retry"
)

func TestConformance(t *testing.T) {
	objtest.Run(t, objtest.Backend{Fresh: func(*testing.T) func() objstore.Store {
		s := retry.New(memory.New(nil), retry.Config{})
		return func() objstore.Store { return s }
	}})
}

// scripted fails its calls with the given kinds, in order; nil is success. A call without an entry hangs until its context ends.
type scripted struct {
	objstore.Store
	kinds []error
	calls int
}

func (s *scripted) next(ctx context.Context, op string) error {
	s.calls++
	if s.calls > len(s.kinds) {
		<-ctx.Done()
		return &objstore.Error{Op: op, Key: "x", Kind: objstore.ErrUnavailable, Cause: ctx.Err()}
	}
	if k := s.kinds[s.calls-1]; k != nil {
		return &objstore.Error{Op: op, Key: "x", Kind: k}
	}
	return nil
}

func (s *scripted) Put(ctx context.Context, _ string, _ []byte, _ objstore.Cond) (objstore.Tag, error) {
	return "t", s.next(ctx, "put")
}

func (s *scripted) Get(ctx context.Context, _ string) ([]byte, objstore.Tag, error) {
	return nil, "t", s.next(ctx, "get")
}

func TestWhatIsRepeated(t *testing.T) {
	away, unknown := objstore.ErrUnavailable, objstore.ErrUnknown
	for _, c := range []struct {
		name  string
		op    string
		kinds []error
		want  error
		calls int
	}{
		{"a read", "get", []error{away, away, nil}, nil, 3},
		{"a read, in vain", "get", []error{away, away, away, away, away, nil}, away, 5},
		{"nothing to find", "get", []error{objstore.ErrNotFound, nil}, objstore.ErrNotFound, 1},
		{"a put that did not happen", "cond", []error{away, nil}, nil, 2},
		{"a put under a condition that may have happened", "cond", []error{away, unknown, nil}, unknown, 2},
		{"a put that may have happened", "put", []error{unknown, nil}, nil, 2},
		{"unknown stays unknown", "put", []error{unknown, objstore.ErrDenied}, unknown, 2},
		{"unknown stays unknown to the end", "put", []error{unknown, away, away, away, away}, unknown, 5},
		{"no space", "put", []error{objstore.ErrNoSpace, nil}, objstore.ErrNoSpace, 1},
		{"lost race", "cond", []error{objstore.ErrChanged, nil}, objstore.ErrChanged, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			inner := &scripted{kinds: c.kinds}
			s := retry.New(inner, retry.Config{})
			var err error
			switch c.op {
			case "get":
				_, _, err = s.Get(t.Context(), "x")
			case "put":
				_, err = s.Put(t.Context(), "x", nil, objstore.Always)
			case "cond":
				_, err = s.Put(t.Context(), "x", nil, objstore.IfMatch("t"))
			}
			if !errors.Is(err, c.want) || c.want == nil && err != nil || inner.calls != c.calls {
				t.Errorf("%s: %v after %d calls, want %v after %d", c.name, err, inner.calls, c.want, c.calls)
			}
		})
	}
}

func TestTriesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := retry.New(&scripted{}, retry.Config{Tries: 2})
		_, _, err := s.Get(t.Context(), "x")
		// Two tries of 30 s and 4 min 16 s for the largest object, and a pause.
		if took := time.Since(began); !errors.Is(err, objstore.ErrUnavailable) || took < 9*time.Minute || took > 10*time.Minute {
			t.Errorf("%v after %v", err, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, _, err = retry.New(&scripted{}, retry.Config{}).Get(ctx, "x"); time.Since(began) != time.Second || objstore.Retryable(err) {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestListGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := faulty.New(memory.New(nil), faulty.Config{Seed: 3, LostRead: 0.01})
		inner.SetFaults(false)
		for i := range 2500 {
			if _, err := inner.Put(t.Context(), fmt.Sprintf("k%04d", i), nil, objstore.IfAbsent); err != nil {
				t.Fatal(err)
			}
		}
		inner.SetFaults(true)
		n := 0
		err := retry.New(inner, retry.Config{Tries: 20}).List(t.Context(), "", "", func(i objstore.Info) bool {
			if want := fmt.Sprintf("k%04d", n); i.Key != want {
				t.Errorf("got %s, want %s", i.Key, want)
			}
			n++
			return true
		})
		if err != nil || n != 2500 || inner.Counts().LostReads == 0 {
			t.Errorf("listed %d of 2500 with %d faults: %v", n, inner.Counts().LostReads, err)
		}
	})
}
