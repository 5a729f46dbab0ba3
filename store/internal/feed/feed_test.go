package feed

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/understudy-ha/understudy/store"
)

func at(key string, rev store.Rev) store.Change {
	return store.Change{Entry: store.Entry{Key: key, Rev: rev}}
}

func gone(key string) store.Change {
	return store.Change{Entry: store.Entry{Key: key}, Deleted: true}
}

func text(b store.Batch) string {
	var s strings.Builder
	if b.Complete {
		s.WriteString("all:")
	}
	for _, c := range b.Changes {
		fmt.Fprintf(&s, " %s@%d", c.Key, c.Rev)
	}
	return s.String()
}

func TestFeed(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(f *Feed)
		want string // "" means nothing to deliver
	}{
		{"nothing", func(f *Feed) {}, ""},
		{"empty reset", func(f *Feed) { f.Reset(nil) }, "all:"},
		{"sorted and coalesced", func(f *Feed) { f.Put(at("p/b", 1), at("p/a", 2)); f.Put(at("p/b", 3)) }, " p/a@2 p/b@3"},
		{"other prefixes", func(f *Feed) { f.Put(at("q/b", 1), at("p", 2)) }, ""},
		{"delete told", func(f *Feed) { f.Put(at("p/a", 1), gone("p/a")) }, " p/a@0"},
		{"reset drops", func(f *Feed) { f.Put(at("p/a", 1)); f.Reset([]store.Entry{{Key: "p/b", Rev: 2}, {Key: "q", Rev: 2}}) }, "all: p/b@2"},
		{"delete after reset", func(f *Feed) { f.Reset([]store.Entry{{Key: "p/b", Rev: 2}}); f.Put(at("p/c", 3), gone("p/b")) }, "all: p/c@3"},
	} {
		f := New("p/")
		test.do(f)
		b, ok := f.take()
		if got := text(b); got != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q %v, want %q", test.name, got, ok, test.want)
		}
		if b, ok := f.take(); ok {
			t.Errorf("%s: delivers again: %q", test.name, text(b))
		}
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New("")
		ctx, cancel := context.WithCancel(t.Context())
		go f.Run(ctx)
		f.Reset(nil)
		f.Put(at("a", 1))
		if got := text(<-f.Batches()); got != "all: a@1" {
			t.Errorf("got %q", got)
		}
		f.Put(at("a", 2))
		synctest.Wait() // Run now waits for a reader
		f.Put(at("a", 3))
		if got := text(<-f.Batches()) + text(<-f.Batches()); got != " a@2 a@3" {
			t.Errorf("got %q", got)
		}
		f.Put(at("a", 4))
		synctest.Wait()
		cancel()
		for range f.Batches() {
			t.Error("delivered after the end")
		}
	})
}
