package faulty_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"testing"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/faulty"
	"github.com/understudy-ha/understudy/objstore/memory"
	"github.com/understudy-ha/understudy/objstore/objtest"
)

func TestWithoutFaultsItIsAStore(t *testing.T) {
	objtest.Run(t, objtest.Backend{Fresh: func(*testing.T) func() objstore.Store {
		s := faulty.New(memory.New(nil), faulty.Config{})
		return func() objstore.Store { return s }
	}})
}

// all is every fault, often.
func all(seed uint64) faulty.Config {
	return faulty.Config{Seed: seed, LostAnswer: 0.1, LostRequest: 0.1, Late: 0.1, Repeated: 0.1, LostRead: 0.1, Unavailable: 0.02, NoSpace: 0.02}
}

// play writes, reads and deletes, and gives what it saw.
func play(seed uint64) (string, faulty.Counts) {
	ctx := context.Background()
	s := faulty.New(memory.New(nil), all(seed))
	var seen bytes.Buffer
	for i := range 400 {
		key := fmt.Sprint("k", i%5)
		_, err := s.Put(ctx, key, []byte{byte(i)}, []objstore.Cond{objstore.Always, objstore.IfAbsent}[i%2])
		data, tag, read := s.Get(ctx, key)
		fmt.Fprintln(&seen, err, data, tag, read)
		if i%7 == 0 {
			fmt.Fprintln(&seen, s.Delete(ctx, key))
		}
		fmt.Fprintln(&seen, s.List(ctx, "", "", func(i objstore.Info) bool { fmt.Fprintln(&seen, i); return true }))
	}
	s.Settle(ctx)
	return seen.String(), s.Counts()
}

func TestSameSeedSameFaults(t *testing.T) {
	a, counts := play(7)
	b, again := play(7)
	if a != b || counts != again {
		t.Error("one seed gave two runs")
	}
	if c, _ := play(8); a == c {
		t.Error("two seeds gave one run")
	}
	for v, i := reflect.ValueOf(counts), 0; i < v.NumField(); i++ {
		if v.Field(i).Int() == 0 {
			t.Errorf("no %s in %+v", v.Type().Field(i).Name, counts)
		}
	}
}

// count adds 1 to a counter n times by read and IfMatch, settling unknown outcomes by reading, and gives what it ended with. Each value is
// written with a number of its own, so that a reader can tell its own write from another's.
func count(t *testing.T, s objstore.Store, n int) int {
	ctx := t.Context()
	for done := 0; done < n; {
		data, tag, err := s.Get(ctx, "count")
		if objstore.Retryable(err) {
			continue
		}
		cond := objstore.IfMatch(tag)
		if errors.Is(err, objstore.ErrNotFound) {
			cond = objstore.IfAbsent
		}
		have, _ := strconv.Atoi(string(data))
		if have > done { // an unknown outcome has turned out well
			done = have
			continue
		}
		if _, err := s.Put(ctx, "count", []byte(strconv.Itoa(have+1)), cond); err == nil {
			done = have + 1
		}
	}
	data, _, err := s.Get(ctx, "count")
	for objstore.Retryable(err) {
		data, _, err = s.Get(ctx, "count")
	}
	have, _ := strconv.Atoi(string(data))
	return have
}

func TestConditionsWithstandAllFaults(t *testing.T) {
	for seed := range uint64(200) {
		s := faulty.New(memory.New(nil), all(seed))
		got := count(t, s, 30)
		s.Settle(t.Context())
		s.SetFaults(false)
		data, _, err := s.Get(t.Context(), "count")
		if after, _ := strconv.Atoi(string(data)); err != nil || got < 30 || after < got {
			t.Fatalf("seed %d: counted to %d, holds %d after all arrived: %v", seed, got, after, err)
		}
	}
}

// TestWithoutConditionsFaultsDoHarm is the control: late and repeated puts undo newer ones.
func TestWithoutConditionsFaultsDoHarm(t *testing.T) {
	harm := 0
	for seed := range uint64(50) {
		s := faulty.New(memory.New(nil), faulty.Config{Seed: seed, Repeated: 0.2})
		for i := range 20 {
			if _, err := s.Put(t.Context(), "x", []byte{byte(i)}, objstore.Always); err != nil {
				t.Fatal(err)
			}
			if data, _, _ := s.Get(t.Context(), "x"); data[0] != byte(i) {
				harm++
			}
		}
	}
	if harm == 0 {
		t.Error("repeated puts undid nothing in 50 seeds")
	}
}

func TestDamage(t *testing.T) {
	ctx := t.Context()
	s := faulty.New(memory.New(nil), faulty.Config{Seed: 1})
	put := func(key, data string) {
		if _, err := s.Put(ctx, key, []byte(data), objstore.Always); err != nil {
			t.Fatal(err)
		}
	}
	get := func(key string) string {
		data, _, err := s.Get(ctx, key)
		if err != nil {
			return err.Error()
		}
		return string(data)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put("a", "first")
	put("a", "second")
	put("b", "other")
	must(s.Replay(ctx, "a"))
	if got := get("a"); got != "first" {
		t.Errorf("replayed %q", got)
	}
	must(s.Swap(ctx, "a", "b"))
	if get("a") != "other" || get("b") != "first" {
		t.Errorf("swapped to %q and %q", get("a"), get("b"))
	}
	must(s.Corrupt(ctx, "a"))
	if got := get("a"); got == "other" || len(got) != 5 {
		t.Errorf("corrupted to %q", got)
	}
	must(s.Truncate(ctx, "b"))
	if got := get("b"); len(got) >= 5 {
		t.Errorf("truncated to %q", got)
	}
	must(s.Drop(ctx, "b"))
	if got := get("b"); got != "get b: not found" {
		t.Errorf("dropped: %q", got)
	}
	must(s.Replay(ctx, "b"))
	if got := get("b"); got != "other" {
		t.Errorf("brought back %q", got)
	}
	put("e", "")
	for _, err := range []error{s.Corrupt(ctx, "e"), s.Truncate(ctx, "e"), s.Replay(ctx, "e")} {
		if !errors.Is(err, objstore.ErrInvalid) {
			t.Errorf("of an empty object: %v", err)
		}
	}
}

func TestBeforeIsTold(t *testing.T) {
	var told []string
	s := faulty.New(memory.New(nil), faulty.Config{Before: func(op, key string) { told = append(told, op+" "+key) }})
	_, _ = s.Put(t.Context(), "x", nil, objstore.Always)
	_, _, _ = s.Get(t.Context(), "x")
	if fmt.Sprint(told) != "[put x get x]" {
		t.Errorf("told %q", told)
	}
}
