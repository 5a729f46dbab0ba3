// Package objtest is the suite that every implementation of objstore.Store passes, and starts the servers that some need for it.
package objtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/objstore"
)

// Backend is how the suite gets stores.
type Backend struct {
	// Fresh gives a way to open stores which share one set of objects that is empty at first. What it opens is closed by the suite.
	Fresh func(t *testing.T) (open func() objstore.Store)
	// Keys says that a key may not be the directory of another.
	Keys bool
}

// limit bounds one test of the suite.
const limit = 3 * time.Minute

// Run plays the suite.
func Run(t *testing.T, b Backend) {
	for _, test := range []struct {
		name string
		play func(t *testing.T, f *fixture)
	}{
		{"whole objects", wholeObjects},
		{"ranges", ranges},
		{"conditions", conditions},
		{"conditions are kept", func(_ *testing.T, f *fixture) {
			if err := objstore.CheckConditions(f.ctx, f.s); err != nil {
				f.Error(err)
			}
		}},
		{"put once", putOnce},
		{"delete", deletes},
		{"keys", keys},
		{"closed and cancelled", closedAndCancelled},
		{"list order", listOrder},
		{"list pages", listPages},
		{"list follows writes", listFollowsWrites},
		{"one winner if absent", oneWinnerIfAbsent},
		{"one winner if match", oneWinnerIfMatch},
		{"no lost update", noLostUpdate},
		{"readers see one write", readersSeeOneWrite},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			f := &fixture{T: t, ctx: ctx, b: b, open: b.Fresh(t)}
			f.s = f.client()
			test.play(t, f)
		})
	}
}

// fixture is one test's store, with calls that fail the test instead of answering errors.
type fixture struct {
	*testing.T
	ctx  context.Context
	b    Backend
	open func() objstore.Store
	s    objstore.Store
}

func (f *fixture) client() objstore.Store {
	s := f.open()
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Errorf("close: %v", err)
		}
	})
	return s
}

func (f *fixture) put(key string, data []byte, cond objstore.Cond) objstore.Tag {
	f.Helper()
	tag, err := f.s.Put(f.ctx, key, data, cond)
	if err != nil || tag == "" {
		f.Fatalf("put %s, %d bytes, %v: tag %q, %v", key, len(data), cond, tag, err)
	}
	return tag
}

func (f *fixture) get(key string) ([]byte, objstore.Tag) {
	f.Helper()
	data, tag, err := f.s.Get(f.ctx, key)
	if err != nil {
		f.Fatalf("get %s: %v", key, err)
	}
	return data, tag
}

func (f *fixture) list(prefix, after string) []string {
	f.Helper()
	var out []string
	if err := f.s.List(f.ctx, prefix, after, func(i objstore.Info) bool { out = append(out, i.Key); return true }); err != nil {
		f.Fatalf("list %q after %q: %v", prefix, after, err)
	}
	return out
}

// want fails the test unless err is a typed error of kind.
func (f *fixture) want(err, kind error) {
	f.Helper()
	var typed *objstore.Error
	if !errors.As(err, &typed) || !errors.Is(err, kind) || typed.Op == "" {
		f.Fatalf("got %v, want an *objstore.Error that is %q", err, kind)
	}
	for _, other := range []error{objstore.ErrNotFound, objstore.ErrRange, objstore.ErrExists, objstore.ErrChanged, objstore.ErrUnknown,
		objstore.ErrUnavailable, objstore.ErrNoSpace, objstore.ErrDenied, objstore.ErrInvalid} {
		if other != kind && errors.Is(err, other) {
			f.Fatalf("%v is %q, and also %q", err, kind, other)
		}
	}
}

// Bytes gives n bytes that seed alone decides.
func Bytes(seed uint64, n int) []byte {
	var key [32]byte
	copy(key[:], fmt.Sprint(seed))
	out := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(out)
	return out
}

func wholeObjects(_ *testing.T, f *fixture) {
	began := time.Now()
	for i, size := range []int{0, 1, 511, 4096, 1<<20 + 1, 8 << 20} {
		key, data := fmt.Sprintf("whole/%d", size), Bytes(uint64(i), size)
		given := bytes.Clone(data)
		tag := f.put(key, given, objstore.Always)
		clear(given) // what was given is the caller's again
		got, gotTag := f.get(key)
		if !bytes.Equal(got, data) || gotTag != tag {
			f.Fatalf("%s: got %d bytes with tag %q, put gave %q", key, len(got), gotTag, tag)
		}
		clear(got) // what was got is the caller's
		if got, _ = f.get(key); !bytes.Equal(got, data) {
			f.Fatalf("%s changed when a reader changed what it got", key)
		}
		info, err := f.s.Head(f.ctx, key)
		if err != nil || info.Key != key || info.Size != int64(size) || info.Tag != tag {
			f.Fatalf("head %s: %+v, %v, want %d bytes, tag %q", key, info, err, size, tag)
		}
	}
	info, _ := f.s.Head(f.ctx, "whole/1")
	if age := info.Modified.Sub(began); f.b.Keys && (age < -time.Minute || age > time.Minute) {
		f.Errorf("modified %v after it was", age)
	}
	_, _, err := f.s.Get(f.ctx, "whole/none")
	f.want(err, objstore.ErrNotFound)
	_, _, err = f.s.Get(f.ctx, "whole/1/none")
	f.want(err, objstore.ErrNotFound)
	_, err = f.s.Head(f.ctx, "whole/none")
	f.want(err, objstore.ErrNotFound)
	_, err = f.s.Head(f.ctx, "whole")
	f.want(err, objstore.ErrNotFound)
}

func ranges(_ *testing.T, f *fixture) {
	data := Bytes(1, 100_000)
	f.put("r", data, objstore.Always)
	f.put("empty", nil, objstore.Always)
	for _, r := range [][2]int64{{0, 1}, {0, 100_000}, {99_999, 1}, {512, 4096}} {
		got, err := f.s.GetRange(f.ctx, "r", r[0], r[1])
		if err != nil || !bytes.Equal(got, data[r[0]:r[0]+r[1]]) {
			f.Fatalf("range %v: %d bytes, %v", r, len(got), err)
		}
	}
	for _, r := range []struct {
		key    string
		off, n int64
		kind   error
	}{
		{"r", 0, 100_001, objstore.ErrRange}, {"r", 99_999, 2, objstore.ErrRange}, {"r", 100_000, 1, objstore.ErrRange},
		{"r", 1 << 25, 1, objstore.ErrRange}, {"empty", 0, 1, objstore.ErrRange}, {"none", 0, 1, objstore.ErrNotFound},
		{"r", -1, 1, objstore.ErrInvalid}, {"r", 0, 0, objstore.ErrInvalid}, {"r", 0, -1, objstore.ErrInvalid}, {"../r", 0, 1, objstore.ErrInvalid},
	} {
		_, err := f.s.GetRange(f.ctx, r.key, r.off, r.n)
		f.want(err, r.kind)
	}
}

func conditions(_ *testing.T, f *fixture) {
	refuse := func(cond objstore.Cond, kind error) {
		f.Helper()
		_, err := f.s.Put(f.ctx, "c/head", []byte("refused"), cond)
		f.want(err, kind)
	}
	refuse(objstore.IfMatch("0123456789abcdef0123456789abcdef"), objstore.ErrChanged)
	refuse(objstore.IfMatch(""), objstore.ErrInvalid)
	one := f.put("c/head", []byte("one"), objstore.IfAbsent)
	refuse(objstore.IfAbsent, objstore.ErrExists)
	two := f.put("c/head", []byte("two"), objstore.IfMatch(one))
	if two == one {
		f.Fatalf("the tag stayed %q when the bytes changed", one)
	}
	refuse(objstore.IfMatch(one), objstore.ErrChanged)
	refuse(objstore.IfMatch("0123456789abcdef0123456789abcdef"), objstore.ErrChanged)
	three := f.put("c/head", []byte("three"), objstore.Always)
	refuse(objstore.IfMatch(two), objstore.ErrChanged)
	if got, tag := f.get("c/head"); string(got) != "three" || tag != three {
		f.Fatalf("got %q, %q", got, tag)
	}
	// A tag that was read is as good as one that was given.
	info, err := f.s.Head(f.ctx, "c/head")
	if err != nil {
		f.Fatal(err)
	}
	four := f.put("c/head", []byte("four"), objstore.IfMatch(info.Tag))
	if err := f.s.Delete(f.ctx, "c/head"); err != nil {
		f.Fatal(err)
	}
	refuse(objstore.IfMatch(four), objstore.ErrChanged)
	f.put("c/head", nil, objstore.IfAbsent)
	refuse(objstore.IfAbsent, objstore.ErrExists) // an empty object is one
	refuse(objstore.IfMatch(four), objstore.ErrChanged)
	_, err = f.s.Put(f.ctx, "c/big", make([]byte, objstore.MaxObject+1), objstore.Always)
	f.want(err, objstore.ErrInvalid)
}

func putOnce(_ *testing.T, f *fixture) {
	tag, err := objstore.PutOnce(f.ctx, f.s, "once", []byte("mine"))
	if err != nil {
		f.Fatal(err)
	}
	if again, err := objstore.PutOnce(f.ctx, f.s, "once", []byte("mine")); err != nil || again != tag {
		f.Fatalf("again: %q, %v, want %q", again, err, tag)
	}
	_, err = objstore.PutOnce(f.ctx, f.s, "once", []byte("theirs"))
	f.want(err, objstore.ErrExists)
}

func deletes(_ *testing.T, f *fixture) {
	for range 2 {
		if err := f.s.Delete(f.ctx, "d/x"); err != nil {
			f.Fatalf("delete of nothing: %v", err)
		}
		f.put("d/x", []byte("x"), objstore.IfAbsent)
		if err := f.s.Delete(f.ctx, "d/x"); err != nil {
			f.Fatal(err)
		}
		_, _, err := f.s.Get(f.ctx, "d/x")
		f.want(err, objstore.ErrNotFound)
	}
	f.put("d/y", []byte("y"), objstore.Always)
	if err := f.s.Delete(f.ctx, "d"); err != nil {
		f.Fatalf("delete of a directory, which is no object: %v", err)
	}
	if got := f.list("", ""); len(got) != 1 || got[0] != "d/y" {
		f.Fatalf("left: %q", got)
	}
}

func closedAndCancelled(_ *testing.T, f *fixture) {
	f.put("x", []byte("x"), objstore.Always)
	gone, cancel := context.WithCancel(f.ctx)
	cancel()
	calls := func(ctx context.Context, s objstore.Store) map[string]error {
		out := map[string]error{}
		_, _, out["get"] = s.Get(ctx, "x")
		_, out["range"] = s.GetRange(ctx, "x", 0, 1)
		_, out["head"] = s.Head(ctx, "x")
		_, out["put"] = s.Put(ctx, "x", nil, objstore.Always)
		out["delete"] = s.Delete(ctx, "x")
		out["list"] = s.List(ctx, "", "", func(objstore.Info) bool { return true })
		return out
	}
	for op, err := range calls(gone, f.s) {
		if !errors.Is(err, context.Canceled) || objstore.Retryable(err) ||
			!errors.Is(err, objstore.ErrUnavailable) && !(errors.Is(err, objstore.ErrUnknown) && (op == "put" || op == "delete")) {
			f.Errorf("cancelled %s: %v", op, err)
		}
	}
	s := f.open()
	for range 2 {
		if err := s.Close(); err != nil {
			f.Fatal(err)
		}
	}
	for op, err := range calls(f.ctx, s) {
		if !errors.Is(err, objstore.ErrUnavailable) || !errors.Is(err, objstore.ErrClosed) || objstore.Retryable(err) {
			f.Errorf("closed %s: %v", op, err)
		}
	}
}
