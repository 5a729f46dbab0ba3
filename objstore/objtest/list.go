package objtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/understudy-ha/understudy/objstore"
)

func keys(_ *testing.T, f *fixture) {
	good := []string{"a", "A-b_c.d/0", "x/" + strings.Repeat("y", objstore.MaxSegment), strings.Repeat("0123456/", 63) + "01234567"}
	for _, k := range good {
		f.put(k, []byte(k), objstore.Always)
		if got, _ := f.get(k); string(got) != k {
			f.Errorf("%s holds %q", k, got)
		}
	}
	slices.Sort(good)
	if got := f.list("", ""); !slices.Equal(got, good) {
		f.Errorf("listed %q, want %q", got, good)
	}
	for _, k := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a..b", ".hidden", "a/.b", "a b", "a%2fb", "ä", "a\x00", "a\nb", "a\\b",
		strings.Repeat("a/", 256) + "b", strings.Repeat("z", objstore.MaxSegment+1)} {
		_, err := f.s.Put(f.ctx, k, nil, objstore.Always)
		f.want(err, objstore.ErrInvalid)
		_, _, err = f.s.Get(f.ctx, k)
		f.want(err, objstore.ErrInvalid)
		f.want(f.s.Delete(f.ctx, k), objstore.ErrInvalid)
	}
	f.want(f.s.List(f.ctx, "../", "", func(objstore.Info) bool { return true }), objstore.ErrInvalid)
	if !f.b.Keys {
		return
	}
	for _, k := range []string{"a/below", "A-b_c.d"} {
		_, err := f.s.Put(f.ctx, k, nil, objstore.Always)
		f.want(err, objstore.ErrInvalid)
		_, err = f.s.Put(f.ctx, k, nil, objstore.IfAbsent)
		f.want(err, objstore.ErrInvalid)
	}
}

func listOrder(_ *testing.T, f *fixture) {
	// In the order of bytes, which is not that of a walk through directories: '-' < '.' < '/' < '0' < 'A' < '_' < 'a'.
	all := []string{"a-b", "a.b", "a.c/z", "a/b", "a/c/d", "a/c/e", "a/d", "a0", "aA", "a_", "aa", "b/0", "b/00", "b/1"}
	for _, i := range []int{7, 3, 12, 0, 9, 13, 5, 1, 8, 11, 2, 10, 4, 6} {
		f.put(all[i], []byte(all[i]), objstore.Always)
	}
	for _, prefix := range []string{"", "a", "a/", "a/c", "a/c/", "a.", "b/0", "b/1", "c", "a/c/d", "a/c/d/"} {
		for _, after := range append([]string{"", "A", "a", "a/", "a/c", "a/c/", "a/c/zz", "b", "b/", "zz"}, all...) {
			var want []string
			for _, k := range all {
				if strings.HasPrefix(k, prefix) && k > after {
					want = append(want, k)
				}
			}
			if got := f.list(prefix, after); !slices.Equal(got, want) {
				f.Errorf("prefix %q after %q: got %q, want %q", prefix, after, got, want)
			}
		}
	}
	var got []objstore.Info
	err := f.s.List(f.ctx, "", "", func(i objstore.Info) bool { got = append(got, i); return len(got) < 3 })
	if err != nil || len(got) != 3 {
		f.Fatalf("stopped at 3: got %d, %v", len(got), err)
	}
	for i, info := range got {
		head, err := f.s.Head(f.ctx, info.Key)
		if err != nil || info.Size != int64(len(all[i])) || info.Tag != "" && info.Tag != head.Tag || info.Modified.Sub(head.Modified).Abs().Seconds() > 1 {
			f.Errorf("listed %+v, head %+v, %v", info, head, err)
		}
	}
}

// pages is more than two pages of the servers' largest size would be if they paged by 500; of S3 and Azure one full page and a bit, twice.
const pages = 1100

func listPages(_ *testing.T, f *fixture) {
	var want []string
	for i := range pages {
		want = append(want, fmt.Sprintf("p/%d/%d", i%7, i*7919))
	}
	each(16, len(want), func(i int) { f.put(want[i], []byte{byte(i)}, objstore.IfAbsent) })
	slices.Sort(want)
	if got := f.list("p/", ""); !slices.Equal(got, want) {
		f.Fatalf("got %d keys, want %d", len(got), len(want))
	}
	after, n := "", 0
	for {
		page := 0
		err := f.s.List(f.ctx, "p/", after, func(i objstore.Info) bool {
			if n < len(want) && i.Key != want[n] {
				f.Errorf("key %d is %s, want %s", n, i.Key, want[n])
			}
			after, n, page = i.Key, n+1, page+1
			return page < 300
		})
		if err != nil {
			f.Fatal(err)
		}
		if page < 300 {
			break
		}
	}
	if n != len(want) {
		f.Fatalf("by pages of 300 got %d keys, want %d", n, len(want))
	}
	// Deleting what is listed, while it is listed, is how garbage is collected.
	deleted := 0
	err := f.s.List(f.ctx, "p/", "", func(i objstore.Info) bool {
		if err := f.s.Delete(f.ctx, i.Key); err != nil {
			f.Errorf("delete %s: %v", i.Key, err)
		}
		deleted++
		return true
	})
	if left := f.list("p/", ""); err != nil || deleted != len(want) || len(left) != 0 {
		f.Fatalf("deleted %d of %d, %d left, %v", deleted, len(want), len(left), err)
	}
}

func listFollowsWrites(_ *testing.T, f *fixture) {
	other := f.client()
	for i := range 20 {
		k := fmt.Sprintf("l/%02d", i)
		f.put(k, nil, objstore.IfAbsent)
		var got []string
		if err := other.List(f.ctx, "l/", "", func(i objstore.Info) bool { got = append(got, i.Key); return true }); err != nil {
			f.Fatal(err)
		}
		if len(got) != i+1 || got[i] != k {
			f.Fatalf("after %d writes another client lists %q", i+1, got)
		}
	}
}

// each calls do with 0 to n-1, from k goroutines.
func each(k, n int, do func(i int)) {
	var work sync.WaitGroup
	next := make(chan int)
	for range k {
		work.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	work.Wait()
}
