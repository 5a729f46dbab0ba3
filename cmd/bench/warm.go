package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/vault"
)

var warmLoads = []workload{
	{"4k_randread_qd32", "iops", []string{"--rw=randread", "--bs=4k", "--iodepth=32"}},
	{"4k_randread_qd1", "iops", []string{"--rw=randread", "--bs=4k", "--iodepth=1"}},
}

const stream = "m-1"

// benchWarm compares a drill's disk, once everything of it was read, with nbdkit on the same disk as a plain file.
func benchWarm(ctx context.Context, o options, dir, far string, r *report) (err error) {
	s, err := newSites(o, filepath.Join(far, "vault"))
	if err != nil {
		return err
	}
	end, err := s.scatter(ctx, o.segments, o.size)
	if err != nil {
		return err
	}
	image, err := s.materialise(ctx, dir, end)
	if err != nil {
		return err
	}
	theirs, err := serveNbdkit(ctx, o, anyCore, image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.stop()) }()
	e, err := s.drill(ctx, filepath.Join(dir, "drill"), end)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	began := time.Now()
	if err := readAll(ctx, e.disk()); err != nil {
		return err
	}
	r.figure("warm_first_read_mib_per_s", float64(o.size>>20)/time.Since(began).Seconds(), "MiB/s", "", "cold")
	ours := target{process: e.process, uri: at(e.disk(), "root"), size: o.size, core: anyCore}
	ours.name = "warm point"
	for _, w := range warmLoads {
		a, b, err := compare(ctx, o, w, ours, theirs)
		if err != nil {
			return err
		}
		r.contenders(w, a, b, "nbdkit file")
		r.atLeast(0.5, "warm_ratio", byRound(a, b, rate), "nbdkit file", w.name)
	}
	return nil
}

// scatter writes a stream of 4 KiB writes of random bytes at random places of a disk, and gives the position of the point at its end.
func (s *sites) scatter(ctx context.Context, bytes, size int64) (seq uint64, err error) {
	rng := rand.NewChaCha8([32]byte{1})
	at := rand.New(rng)
	return s.fill(ctx, size, int(bytes/4096), func(i int, data []byte) (off int64, n int) {
		_, _ = rng.Read(data[:4096]) // never fails
		return at.Int64N(size/4096) * 4096, 4096
	}, nil)
}

// fill makes a stream of n writes, each told by next, and a point. each, if set, is called after every Append.
func (s *sites) fill(ctx context.Context, size int64, n int, next func(i int, data []byte) (off int64, len int), each func(v *vault.Vault, seq uint64) error) (
	seq uint64, err error) {
	v, store, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	w, err := v.Writer(ctx, vault.StreamSpec{ID: stream, Epoch: 1, Machine: vault.Machine{UID: "m", Name: "default/m"}, Disks: []vault.Disk{{ID: "root", Size: size}}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	const batch = 15 << 20 // bytes; a segment holds 16 MiB
	for i := 0; i < n; {
		var recs []journal.Record
		for raw := 0; raw < batch && i < n; i++ {
			seq++
			data := make([]byte, 4096)
			off, size := next(i, data)
			recs = append(recs, journal.Record{Seq: seq, Kind: journal.Write, Off: off, Len: int64(size), Data: data[:size]})
			raw += journal.RecordSize(&recs[len(recs)-1])
		}
		if i == n {
			seq++
			recs = append(recs, journal.Record{Seq: seq, Kind: journal.Point, Point: &journal.PointInfo{ID: "end", At: time.Now().UTC(), Consistency: journal.Crash}})
		}
		if _, err := w.Append(ctx, recs); err != nil {
			return 0, err
		}
		if each != nil {
			if err := each(v, seq); err != nil {
				return 0, err
			}
		}
	}
	return seq, nil
}

// materialise writes a point as a raw image, as an operator would.
func (s *sites) materialise(ctx context.Context, dir string, seq uint64) (image string, err error) {
	key := filepath.Join(dir, "key")
	if err := writeKey(key, s.key); err != nil {
		return "", err
	}
	image = filepath.Join(dir, "image.raw")
	out, err := exec.CommandContext(ctx, s.o.understudy, "vault", "export", "--vault", "file://"+s.at, "--key", key, "--stream", stream,
		"--point", fmt.Sprintf("@%d", seq), "--out", image).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("vault export: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return image, nil
}

// drill runs a site engine over a point, without a virtual machine. Its disk is served when this returns.
func (s *sites) drill(ctx context.Context, home string, seq uint64) (*engine, error) {
	e, err := s.run(ctx, home, "recovery", anyCore, api.Section{Engine: api.EngineSite, Owner: "bench", Generation: 1,
		Site: &api.SiteConfig{Machine: "default/m", UID: "m", Instance: "drill", Drill: true, Vault: s.access(true), Stream: stream, Seq: seq,
			Disks: []api.MachineDisk{{Name: "root"}}, Mode: "writable"}})
	if err != nil {
		return nil, err
	}
	return e, e.listens(ctx, e.disk())
}

// readAll reads a disk from its beginning to its end.
func readAll(ctx context.Context, socket string) error {
	c, err := nbd.Dial(ctx, "unix", socket, "root", nbd.DialOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	p := make([]byte, 1<<20)
	for off := int64(0); off < c.Size(); off += int64(len(p)) {
		if err := c.ReadAt(ctx, p[:min(int64(len(p)), c.Size()-off)], off); err != nil {
			return err
		}
	}
	return nil
}
