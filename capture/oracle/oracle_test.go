package oracle

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

func agree(t *testing.T, log *os.File, recs []journal.Record, size int64, mode Mode) {
	t.Helper()
	rep, err := Compare(ReadLog(log), FromRecords(slices.Values(recs), 0), size, mode)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Entries < 100 || rep.Flushes < 5 {
		t.Fatalf("the witness saw too little: %+v", rep)
	}
	t.Logf("%d entries, %d flushes, %d differences", rep.Entries, rep.Flushes, rep.Total)
	for _, d := range rep.Differences {
		t.Error(d)
	}
	rep, err = Compare(ReadLog(log), FromRecords(slices.Values(oneIn40Missing(recs)), 0), size, mode)
	if err != nil || rep.Total == 0 {
		t.Errorf("one record in 40 was left out, and nobody saw it: %+v, %v", rep, err)
	}
}

func oneIn40Missing(recs []journal.Record) (less []journal.Record) {
	changes := 0
	for _, r := range recs {
		if r.Kind == journal.Write || r.Kind == journal.Zero {
			if changes++; changes%40 == 0 {
				continue
			}
		}
		less = append(less, r)
	}
	return less
}

// requests writes qemu-io commands; at a depth of more than one they overlap between two flushes.
func requests(r *rand.Rand, n int, size int64, depth int) (commands []string) {
	for i := range n {
		length := (1 + r.Int64N(32)) * 512
		off := r.Int64N((size-length)/512) * 512
		async := ""
		if depth > 1 {
			async = "aio_"
		}
		switch k := r.IntN(20); {
		case k == 0 && depth == 1:
			commands = append(commands, fmt.Sprintf("discard %d %d", off, length))
		case k == 1:
			commands = append(commands, fmt.Sprintf("%swrite -z %d %d", async, off, length))
		case k == 2:
			commands = append(commands, fmt.Sprintf("%swrite -f -P %d %d %d", async, 1+r.IntN(255), off, length))
		default:
			commands = append(commands, fmt.Sprintf("%swrite -P %d %d %d", async, 1+r.IntN(255), off, length))
		}
		if i%depth == depth-1 && depth > 1 {
			commands = append(commands, "aio_flush")
		}
		if r.IntN(25) == 0 {
			if depth > 1 {
				commands = append(commands, "aio_flush")
			}
			commands = append(commands, "flush")
		}
	}
	return append(commands, "aio_flush", "flush")
}

func TestOneAtATime(t *testing.T) {
	s := newStack(t, 8<<20)
	log := s.qemuIO(t, requests(rand.New(rand.NewPCG(1, 1)), 1500, s.size, 1))
	agree(t, log, s.records(t), s.size, Exact)
}

func TestDeep(t *testing.T) {
	s := newStack(t, 8<<20)
	log := s.qemuIO(t, requests(rand.New(rand.NewPCG(2, 1)), 2000, s.size, 16))
	agree(t, log, s.records(t), s.size, Flushed)
}

// TestTwoConnections writes over each other through two connections. Whenever nothing is under way, what was recorded
// so far is the disk.
func TestTwoConnections(t *testing.T) {
	s := newStack(t, 4<<20)
	r := rand.New(rand.NewPCG(3, 1))
	var clients []*nbd.Client
	for range 2 {
		c, err := nbd.Dial(t.Context(), "unix", s.socket, "", nbd.DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	type quiet struct {
		seq   uint64
		image []byte
	}
	var at []quiet
	for range 40 {
		var wg sync.WaitGroup
		for k := range 8 {
			r := rand.New(rand.NewPCG(r.Uint64(), 0))
			wg.Go(func() {
				for range 12 {
					p := bytes.Repeat([]byte{byte(r.Uint32())}, (1+r.IntN(16))*512)
					off := r.Int64N((s.size-int64(len(p)))/512) / 8 * 512 // most of them overlap
					if err := clients[k%2].WriteAt(t.Context(), p, off, r.IntN(10) == 0); err != nil {
						t.Error(err)
					}
				}
				if err := clients[k%2].Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		image, err := os.ReadFile(filepath.Join(s.dir, "disk.raw"))
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, quiet{s.m.Position().Captured, image})
	}
	image := &memory{make([]byte, s.size)}
	for _, rec := range s.records(t) {
		for e := range FromRecords(slices.Values([]journal.Record{rec}), 0) {
			e.Apply(image)
		}
		for len(at) > 0 && at[0].seq == rec.Seq {
			if !bytes.Equal(image.b, at[0].image) {
				t.Fatalf("after record %d the stream is not the disk", rec.Seq)
			}
			at = at[1:]
		}
	}
	if len(at) > 0 {
		t.Errorf("%d images were not reached", len(at))
	}
}

type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.b[off:], p), nil }

// stress is a small fsstress: files are made, written in places, renamed, linked, cut and deleted, and synced.
func stress(workers, steps int) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		var wg sync.WaitGroup
		for k := range workers {
			r := rand.New(rand.NewPCG(uint64(k), 9))
			wg.Go(func() {
				home := filepath.Join(dir, fmt.Sprint(k))
				os.Mkdir(home, 0o700)
				for range steps {
					name := func() string { return filepath.Join(home, fmt.Sprint(r.IntN(40))) }
					switch r.IntN(10) {
					case 0:
						os.Remove(name())
					case 1:
						os.Rename(name(), name())
					case 2:
						os.Link(name(), name())
					case 3:
						os.Truncate(name(), r.Int64N(200<<10))
					case 4:
						d := filepath.Join(home, fmt.Sprint("d", r.IntN(9)))
						if os.Mkdir(d, 0o700) != nil {
							os.Remove(d)
						}
					default:
						f, err := os.OpenFile(name(), os.O_RDWR|os.O_CREATE, 0o600)
						if err != nil {
							continue
						}
						f.WriteAt(bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(40<<10)), r.Int64N(150<<10))
						if r.IntN(4) == 0 {
							f.Sync()
						}
						f.Close()
					}
				}
			})
		}
		wg.Wait()
	}
}

// prefixes checks the file system as it is after each of n positions, chosen by chance, of a stream since it was made, and
// tells how many were damaged, and the first of them.
func prefixes(t *testing.T, recs []journal.Record, size int64, made uint64, n int, check func(ctx context.Context, image string) error) (damaged int, first error) {
	t.Helper()
	begin := slices.IndexFunc(recs, func(r journal.Record) bool { return r.Seq > made })
	r := rand.New(rand.NewPCG(7, 7))
	chosen := map[int]bool{}
	for range n {
		chosen[begin+r.IntN(len(recs)-begin)] = true
	}
	dir := t.TempDir()
	image, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if err := image.Truncate(size); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	for i, rec := range recs {
		for e := range FromRecords(slices.Values([]journal.Record{rec}), 0) {
			if err := e.Apply(image); err != nil {
				t.Fatal(err)
			}
		}
		if !chosen[i] {
			continue
		}
		copied := filepath.Join(dir, "copy")
		run(t, "cp", "--sparse=always", image.Name(), copied)
		if err := check(t.Context(), copied); err != nil {
			damaged++
			if first == nil {
				first = fmt.Errorf("after record %d: %w", rec.Seq, err)
			}
		}
	}
	t.Logf("%d prefixes of %d records checked in %v, %d damaged", len(chosen), len(recs), time.Since(started).Round(time.Millisecond), damaged)
	return damaged, first
}
