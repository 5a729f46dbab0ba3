package volume

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/nbd"
)

// numbered is a base whose sector s is filled with tag s+1; every third MiB is zeroes.
func numbered(t *testing.T, size int64) *memBase {
	b := &memBase{t: t, tags: make([]uint64, size/sector)}
	for s := range b.tags {
		if int64(s)*sector>>20%3 != 1 {
			b.tags[s] = uint64(s) + 1
		}
	}
	return b
}

func mustOpen(t *testing.T, cfg Config) *Volume {
	t.Helper()
	v, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func mustRead(t *testing.T, v *Volume, off, n int64) []byte {
	t.Helper()
	p := make([]byte, n)
	if err := v.ReadAt(context.Background(), p, off); err != nil {
		t.Fatal(err)
	}
	return p
}

// eventually a condition holds, within 20 s.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
}

func TestHydratedFileIsTheDisk(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "disk")
	base := numbered(t, 8<<20+512)
	v := mustOpen(t, Config{Path: path, Base: base})
	if _, err := Open(Config{Path: path, Base: base}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	var zeroes, data int64
	err := v.Extents(ctx, 0, v.Size(), func(off, n int64, e nbd.Extent) bool {
		if e&nbd.Zeros != 0 {
			zeroes += n
		} else {
			data += n
		}
		return true
	})
	if err != nil || zeroes != 3<<20 && zeroes != 2<<20 || zeroes+data != v.Size() {
		t.Errorf("%d of zeroes and %d of data: %v", zeroes, data, err)
	}
	begun, rate := time.Now(), int64(20<<20)
	if err := v.Hydrate(ctx, rate, nil); err != nil {
		t.Fatal(err)
	}
	s := v.Status()
	if took := time.Since(begun).Seconds(); took < 0.8*float64(s.FetchedBytes)/float64(rate) {
		t.Errorf("fetched %d bytes in %.2f s at %d a second", s.FetchedBytes, took, rate)
	}
	if !s.Complete || s.FetchedBytes != data || s.PresentBytes != s.SizeBytes {
		t.Errorf("%+v", s)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	want := make([]byte, base.Size())
	_ = base.ReadAt(ctx, want, 0)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file is not the disk: %v", err)
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil && st.Blocks*512 > data+1<<20 {
		t.Errorf("the file takes %d bytes for %d of data", st.Blocks*512, data)
	}
	v = mustOpen(t, Config{Path: path}) // the base is not needed any more
	if err := v.WriteAt(ctx, make([]byte, 512), 1024, true); err != nil {
		t.Error(err)
	}
}

func TestQuotaPausesWritesAndNotReads(t *testing.T) {
	ctx := context.Background()
	base := numbered(t, 8<<20)
	v := mustOpen(t, Config{Path: filepath.Join(t.TempDir(), "disk"), Base: base, QuotaBytes: 4 * Granule})
	done := make(chan error, 1)
	p := bytes.Repeat([]byte{7}, 6*Granule)
	go func() { done <- v.WriteAt(ctx, p, 512, false) }() // six granules and a part of a seventh
	eventually(t, "a write waits for the quota", func() bool { return v.Status().Waiting == "quota" })
	if got := mustRead(t, v, 5<<20, 4*Granule); tag(got) != 5<<20/sector+1 {
		t.Errorf("read %#x", tag(got))
	}
	mustRead(t, v, 0, 512) // of a granule that the write waits for
	if s := v.Status(); s.FilledBytes > 4*Granule {
		t.Errorf("%d bytes filled, quota %d", s.FilledBytes, s.QuotaBytes)
	}
	v.SetQuota(16 * Granule)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, v, 512, 6*Granule); !bytes.Equal(got, p) {
		t.Error("what was written is not read")
	}
	if s := v.Status(); s.Waiting != "" || s.Waited == 0 {
		t.Errorf("%+v", s)
	}
	v.SetQuota(8 * Granule)
	go func() { done <- v.WriteAt(ctx, p, 2<<20, false) }()
	eventually(t, "a write waits for the quota", func() bool { return v.Status().Waiting == "quota" })
	if err := v.Trim(ctx, 0, 8*Granule, false); err != nil { // space is given back
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	v.SetQuota(Granule)
	go func() { done <- v.WriteAt(ctx, p, 4<<20, false) }()
	eventually(t, "a write waits for the quota", func() bool { return v.Status().Waiting == "quota" })
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("a waiting write when the volume is closed: %v", err)
	}
}

func tag(p []byte) uint64 { n, _ := tagOf(p[:sector]); return n }

func TestFullFileSystemPausesWrites(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount a small tmpfs: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	ctx, ballast := context.Background(), filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	base := numbered(t, 8<<20)
	v := mustOpen(t, Config{Path: filepath.Join(dir, "disk"), Base: base})
	done := make(chan error, 1)
	p := bytes.Repeat([]byte{9}, 1<<20)
	go func() { done <- v.WriteAt(ctx, p, 0, false) }()
	eventually(t, "a write waits for space", func() bool { return v.Status().Waiting == "no space" })
	for off := int64(0); off < v.Size(); off += 1 << 20 {
		if got := mustRead(t, v, off+1<<19, Granule); off > 0 && tag(got) != base.tags[(off+1<<19)/sector] {
			t.Errorf("read %#x at %d", tag(got), off)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("the write ended: %v", err)
	default:
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := mustRead(t, v, 0, 1<<20); !bytes.Equal(got, p) {
		t.Error("what was written is not read")
	}
}

// TestGuestAndHydration has readers and writers, each on sectors of its own that share granules, while the volume hydrates.
func TestGuestAndHydration(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "disk")
	base := numbered(t, 16<<20)
	base.slow = time.Millisecond
	v := mustOpen(t, Config{Path: path, Base: base})
	const guests = 4
	want := append([]uint64(nil), base.tags...)
	var wg sync.WaitGroup
	for g := range guests {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 2))
			p := make([]byte, sector)
			for i := range 1500 {
				s := r.IntN(len(want)/guests)*guests + g
				off := int64(s) * sector
				if r.IntN(2) == 0 {
					if err := v.ReadAt(ctx, p, off); err != nil || tag(p) != want[s] {
						t.Errorf("sector %d reads %#x, want %#x: %v", s, tag(p), want[s], err)
						return
					}
					continue
				}
				want[s] = uint64(g+1)<<40 + uint64(i)
				fill(p, want[s])
				if err := v.WriteAt(ctx, p, off, i%100 == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		if err := v.Hydrate(ctx, 0, nil); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		for range 20 {
			if err := v.Flush(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if !v.Complete() {
		t.Errorf("not complete: %+v", v.Status())
	}
	got := mustRead(t, v, 0, v.Size())
	for s := range want {
		if n, whole := tagOf(got[s*sector : (s+1)*sector]); n != want[s] || !whole {
			t.Fatalf("sector %d holds %#x, want %#x", s, n, want[s])
		}
	}
}

// TestMain runs the writer that TestKill kills, when asked to.
func TestMain(m *testing.M) {
	if path := os.Getenv("VOLUME_WRITER"); path != "" {
		writer(path)
		return
	}
	m.Run()
}

// writer writes sector after sector, in parts of granules, and says each when it was acknowledged.
func writer(path string) {
	base := numbered(nil, 8<<20)
	v, err := Open(Config{Path: path, Base: base})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	go func() { _ = v.Hydrate(context.Background(), 1<<20, nil) }()
	p := make([]byte, sector)
	for i := 0; ; i++ {
		s := i * 37 % len(base.tags)
		fill(p, 1<<50+uint64(i))
		if err := v.WriteAt(context.Background(), p, int64(s)*sector, false); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("wrote", i)
	}
}

func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	base := numbered(t, 8<<20)
	want := append([]uint64(nil), base.tags...)
	for life := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "VOLUME_WRITER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, last := bufio.NewScanner(out), -1
		for lines.Scan() {
			if _, err := fmt.Sscanf(lines.Text(), "wrote %d", &last); err != nil {
				t.Fatalf("the writer says %q", lines.Text())
			}
			if last == 300+life*200 {
				break
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it died
			_, _ = fmt.Sscanf(lines.Text(), "wrote %d", &last)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		for i := 0; i <= last; i++ {
			want[i*37%len(want)] = 1<<50 + uint64(i)
		}
		v, err := Open(Config{Path: path, Base: base})
		if err != nil {
			t.Fatal(err)
		}
		got := mustRead(t, v, 0, v.Size())
		next := (last + 1) * 37 % len(want) // may have been written and not said
		for s := range want {
			n, whole := tagOf(got[s*sector : (s+1)*sector])
			if s == next && n == 1<<50+uint64(last)+1 {
				want[s] = n
			}
			if n != want[s] || !whole {
				t.Fatalf("life %d, killed after write %d: sector %d holds %#x, want %#x", life, last, s, n, want[s])
			}
		}
		t.Logf("life %d: %d writes, %+v", life, last, v.Status())
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAFileSystemIsNotFilled: others live there as well. A volume that has no quota leaves them some room, and goes on when there is more.
func TestAFileSystemIsNotFilled(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=20m"); err != nil {
		t.Fatalf("mount a small tmpfs: %v", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	v := mustOpen(t, Config{Path: filepath.Join(dir, "disk"), Base: numbered(t, 64<<20)})
	done := make(chan error, 1)
	go func() { done <- v.WriteAt(context.Background(), bytes.Repeat([]byte{9}, 32<<20), 0, false) }()
	eventually(t, "a write waits for space", func() bool { return v.Status().Waiting == "no space" })
	free := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Bavail) * st.Bsize
	}
	if free() < 1<<20 || v.Status().FilledBytes < 16<<20 {
		t.Errorf("%d bytes are left of 20 MiB, the volume has %d", free(), v.Status().FilledBytes)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=60m"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
