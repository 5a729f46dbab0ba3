package objtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/understudy-ha/understudy/objstore"
)

const (
	racers = 16
	rounds = 20
)

// race lets racers put to key under one condition at once, through two clients, and sees that one of them wins.
func race(f *fixture, key string, cond objstore.Cond, loses error) (winner []byte) {
	f.Helper()
	clients := []objstore.Store{f.s, f.client()}
	var mu sync.Mutex
	var wins [][]byte
	start := make(chan struct{})
	var work sync.WaitGroup
	for i := range racers {
		work.Go(func() {
			mine := fmt.Appendf(nil, "%s by %d", key, i)
			<-start
			_, err := clients[i%2].Put(f.ctx, key, mine, cond)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				wins = append(wins, mine)
			} else if !errors.Is(err, loses) {
				f.Errorf("%s: %v, want %v", mine, err, loses)
			}
		})
	}
	close(start)
	work.Wait()
	if len(wins) != 1 {
		f.Fatalf("%s: %d winners: %q", key, len(wins), wins)
	}
	if got, _ := f.get(key); !bytes.Equal(got, wins[0]) {
		f.Fatalf("%s: %q won, but it holds %q", key, wins[0], got)
	}
	return wins[0]
}

func oneWinnerIfAbsent(_ *testing.T, f *fixture) {
	for r := range rounds {
		race(f, fmt.Sprintf("race/%d", r), objstore.IfAbsent, objstore.ErrExists)
	}
}

func oneWinnerIfMatch(_ *testing.T, f *fixture) {
	f.put("head", []byte("first"), objstore.Always)
	for range rounds {
		_, tag := f.get("head")
		race(f, "head", objstore.IfMatch(tag), objstore.ErrChanged)
		f.put("head", []byte("between"), objstore.Always)
	}
}

// noLostUpdate counts in an object by read and IfMatch.
func noLostUpdate(_ *testing.T, f *fixture) {
	const counters, steps = 4, 12
	f.put("count", []byte("0"), objstore.IfAbsent)
	var work sync.WaitGroup
	for range counters {
		s := f.client()
		work.Go(func() {
			for done := 0; done < steps; {
				data, tag, err := s.Get(f.ctx, "count")
				if err != nil {
					f.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(data))
				_, err = s.Put(f.ctx, "count", []byte(strconv.Itoa(n+1)), objstore.IfMatch(tag))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, objstore.ErrChanged):
					f.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	if got, _ := f.get("count"); string(got) != strconv.Itoa(counters*steps) {
		f.Errorf("counted to %s, want %d", got, counters*steps)
	}
}

// readersSeeOneWrite overwrites an object while it is read: every read is one write's bytes, no mix, and its tag fits.
func readersSeeOneWrite(_ *testing.T, f *fixture) {
	const size, writes = 256 << 10, 30
	fill := func(n int) []byte {
		return bytes.Repeat(binary.BigEndian.AppendUint64(nil, uint64(n)), (size-n*8)/8)
	}
	f.put("hot", fill(0), objstore.Always)
	var over atomic.Bool
	var work sync.WaitGroup
	reads := [3]int{}
	for r := range reads {
		s := f.client()
		work.Go(func() {
			for ; !over.Load() || reads[r] == 0; reads[r]++ {
				data, tag, err := s.Get(f.ctx, "hot")
				if err != nil || tag == "" {
					f.Errorf("read: %v", err)
					return
				}
				if n := int(binary.BigEndian.Uint64(data)); n > writes || !bytes.Equal(data, fill(n)) {
					f.Errorf("a read of %d bytes is no write's", len(data))
					return
				}
			}
		})
	}
	for n := 1; n <= writes; n++ {
		f.put("hot", fill(n), objstore.Always)
	}
	over.Store(true)
	work.Wait()
}
