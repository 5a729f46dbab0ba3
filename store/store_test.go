package store_test

import (
	"reflect"
	"testing"

	"github.com/understudy-ha/understudy/store"
)

func TestViewApply(t *testing.T) {
	at := func(key string, rev store.Rev) store.Change {
		return store.Change{Entry: store.Entry{Key: key, Rev: rev, Value: []byte("v")}}
	}
	gone := func(key string) store.Change { return store.Change{Entry: store.Entry{Key: key}, Deleted: true} }
	v := store.View{}
	for i, step := range []struct {
		batch store.Batch
		diff  []store.Change
		size  int
	}{
		{store.Batch{Complete: true, Changes: []store.Change{at("a", 1), at("b", 1)}}, []store.Change{at("a", 1), at("b", 1)}, 2},
		{store.Batch{Changes: []store.Change{at("a", 2), at("b", 1)}}, []store.Change{at("a", 2)}, 2},
		{store.Batch{Changes: []store.Change{gone("b"), gone("never")}}, []store.Change{gone("b")}, 1},
		{store.Batch{Complete: true, Changes: []store.Change{at("c", 4)}}, []store.Change{gone("a"), at("c", 4)}, 1},
		{store.Batch{Complete: true}, []store.Change{gone("c")}, 0},
	} {
		if diff := v.Apply(step.batch); !reflect.DeepEqual(diff, step.diff) || len(v) != step.size {
			t.Errorf("step %d: differs by %+v, want %+v; view %+v", i, diff, step.diff, v)
		}
	}
}

// FuzzValidKey checks that a valid key survives what implementations do to it: it has no
// empty and no dot segments, and no byte that they use as their own separator.
func FuzzValidKey(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a//b", "/a", "a/", "..", "a/../b", "a,b", "a\x00", "x~%:@+=-._"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if store.ValidKey(key) != nil {
			return
		}
		start := 0
		for i := 0; i <= len(key); i++ {
			if i == len(key) || key[i] == '/' {
				if seg := key[start:i]; seg == "" || seg == "." || seg == ".." {
					t.Fatalf("%q passed with segment %q", key, seg)
				}
				start = i + 1
			} else if key[i] <= ' ' || key[i] > '~' || key[i] == ',' {
				t.Fatalf("%q passed with byte %q", key, key[i])
			}
		}
		if err := store.ValidPrefix(key + "/"); err != nil {
			t.Fatalf("%q is a key, but %q is no prefix: %v", key, key+"/", err)
		}
	})
}
