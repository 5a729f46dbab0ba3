package nbd

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// memory is a disk in memory, for tests.
type memory struct {
	mu      sync.RWMutex
	b       []byte
	flushes int
	fuas    int
	before  func(op string) error // called before every request
}

func newMemory(n int) *memory { return &memory{b: make([]byte, n)} }

func (m *memory) hook(op string) error {
	if m.before != nil {
		return m.before(op)
	}
	return nil
}

func (m *memory) Size() int64 { return int64(len(m.b)) }

func (m *memory) ReadAt(_ context.Context, p []byte, off int64) error {
	if err := m.hook("read"); err != nil {
		return err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	copy(p, m.b[off:off+int64(len(p))])
	return nil
}

func (m *memory) WriteAt(_ context.Context, p []byte, off int64, fua bool) error {
	if err := m.hook("write"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(m.b[off:off+int64(len(p))], p)
	if fua {
		m.fuas++
	}
	return nil
}

func (m *memory) Zero(_ context.Context, off, n int64, _, fua bool) error {
	if err := m.hook("zero"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.b[off : off+n])
	if fua {
		m.fuas++
	}
	return nil
}

func (m *memory) Trim(ctx context.Context, off, n int64, fua bool) error {
	return m.Zero(ctx, off, n, true, fua)
}

func (m *memory) Flush(context.Context) error {
	if err := m.hook("flush"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	return nil
}

// Extents of 4 KiB blocks: holes where all is zero.
func (m *memory) Extents(_ context.Context, off, n int64, yield func(off, n int64, e Extent) bool) error {
	for end := off + n; off < end; {
		part := min(4096-off%4096, end-off)
		m.mu.RLock()
		e := Hole | Zeros
		if !bytes.Equal(m.b[off:off+part], zeros[:part]) {
			e = 0
		}
		m.mu.RUnlock()
		if !yield(off, part, e) {
			return nil
		}
		off += part
	}
	return nil
}

// serve runs a server until the test ends, and gives its socket.
func serve(t testing.TB, cfg Config, exports ...Export) (*Server, string) {
	t.Helper()
	path := filepath.Join(shortDir(t), "s")
	l, err := Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, cfg, l, exports...), path
}

func serveOn(t testing.TB, cfg Config, l net.Listener, exports ...Export) *Server {
	t.Helper()
	s := NewServer(cfg)
	for _, e := range exports {
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error("serve:", err)
		}
	})
	return s
}

// shortDir is a directory whose path leaves room in a socket's address.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func dial(t testing.TB, path, export string) *Client {
	t.Helper()
	c, err := Dial(context.Background(), "unix", path, export, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// tempDisk is an empty disk on the file system of temporary files.
func tempDisk(t testing.TB, size int64) (path string) { return sparseFile(t, t.TempDir(), size) }

// memoryDir is a directory in memory.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func sparseFile(t testing.TB, dir string, size int64) (path string) {
	t.Helper()
	path = filepath.Join(dir, "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func openDisk(t testing.TB, path string) *File {
	t.Helper()
	d, err := OpenFile(path, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestModel plays random requests over many connections, each with several under way, against a copy in memory. Each player has a
// part of the disk to itself, so that what it must read is known.
func TestModel(t *testing.T) {
	const size, players = 16 << 20, 8
	for _, blocking := range []bool{false, true} {
		for _, kind := range []string{"file", "memory"} {
			t.Run(fmt.Sprintf("%s/blocking=%v", kind, blocking), func(t *testing.T) {
				var disk Backend = newMemory(size)
				if kind == "file" {
					disk = openDisk(t, sparseFile(t, memoryDir(t), size)) // a disk would take its time for every flush
				}
				_, path := serve(t, Config{}, Export{Name: "d", Backend: disk, Blocking: blocking})
				shared := dial(t, path, "d")
				seed := uint64(time.Now().UnixNano())
				t.Log("seed", seed)
				var all sync.WaitGroup
				for i := range players {
					c := shared
					if i%2 == 0 {
						c = dial(t, path, "d")
					}
					all.Go(func() {
						if err := play(c, rand.New(rand.NewPCG(seed, uint64(i))), int64(i)*size/players, size/players); err != nil {
							t.Errorf("player %d, seed %d: %v", i, seed, err)
						}
					})
				}
				all.Wait()
			})
		}
	}
}

func play(c *Client, rng *rand.Rand, base, size int64) error {
	ctx := context.Background()
	model := make([]byte, size)
	buf := make([]byte, size)
	for step := range 150 {
		off := rng.Int64N(size/512) * 512
		n := min(size-off, (1+rng.Int64N(1<<uint(rng.IntN(12))))*512)
		fua := rng.IntN(8) == 0
		var err error
		switch rng.IntN(8) {
		case 0, 1, 2:
			p := buf[:n]
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			copy(model[off:], p)
			err = c.WriteAt(ctx, p, base+off, fua)
		case 3:
			clear(model[off : off+n])
			err = c.Zero(ctx, base+off, n, rng.IntN(2) == 0, fua)
		case 4:
			clear(model[off : off+n])
			err = c.Trim(ctx, base+off, n, fua)
		case 5:
			err = c.Flush(ctx)
		case 6:
			at := off
			err = c.Extents(ctx, base+off, n, func(xoff, xn int64, e Extent) bool {
				if xoff-base != at || xn <= 0 || xoff-base+xn > off+n {
					err = fmt.Errorf("extent %d+%d after %d of %d+%d", xoff, xn, at, off, n)
				} else if e&Zeros != 0 && !bytes.Equal(model[at:at+xn], make([]byte, xn)) {
					err = fmt.Errorf("extent %d+%d is not zero", xoff, xn)
				}
				at += xn
				return true
			})
		}
		if err == nil {
			p := buf[:n]
			if err = c.ReadAt(ctx, p, base+off); err == nil && !bytes.Equal(p, model[off:off+n]) {
				err = fmt.Errorf("read %d+%d differs", off, n)
			}
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
	}
	if err := c.ReadAt(ctx, buf, base); err != nil || !bytes.Equal(buf, model) {
		return fmt.Errorf("in the end: %v, or the disk differs", err)
	}
	return nil
}
