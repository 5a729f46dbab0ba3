package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/understudy-ha/understudy/store"
	"github.com/understudy-ha/understudy/store/memory"
	"github.com/understudy-ha/understudy/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		s := memory.New()
		peer, err := memory.Open(t.Context(), memory.Config{Peer: s})
		if err != nil {
			t.Fatal(err)
		}
		return storetest.Harness{
			Store:   s,
			Peer:    peer,
			Cut:     func() func() { s.Cut(); return s.Heal },
			Expire:  s.Relist,
			Compact: func() {}, // there is no history to resume from: Heal always lists
		}
	})
}

func TestLoseAnswers(t *testing.T) {
	s := memory.New()
	defer s.Close()
	ctx := context.Background()
	s.LoseAnswers(true)
	if _, err := s.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte("v")}}); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("Txn: %v, want ErrUnknown", err)
	}
	s.LoseAnswers(false)
	if e, err := s.Get(ctx, "k"); err != nil || string(e.Value) != "v" {
		t.Fatalf("Get = %+v, %v: the transaction must have happened", e, err)
	}
}

// TestBubble shows that a memory store lives inside a synctest bubble, batches are sorted and a
// quiet one says nothing.
func TestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		in, err := s.Watch(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if b := <-in; !b.Complete || len(b.Changes) != 0 {
			t.Fatalf("first batch %+v", b)
		}
		ops := []store.Op{{Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte("1")}, {Key: "none", Delete: true}}
		if _, err := s.Txn(t.Context(), nil, ops); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if b := <-in; b.Complete || len(b.Changes) != 2 || b.Changes[0].Key != "a" || b.Changes[1].Key != "b" {
			t.Fatalf("second batch %+v", b)
		}
		synctest.Wait()
		select {
		case b := <-in:
			t.Fatalf("nothing happened, but the watch tells %+v", b)
		default:
		}
		s.Close()
	})
}
