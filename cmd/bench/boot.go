package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/vault"
)

const (
	blockEvery   = 52 << 10 // bytes of a disk to one indexed block
	blockBytes   = 512      // that are in the vault of each; the rest of its 4 KiB is a hole
	bootReads    = 16384    // of 4 KiB: 64 MiB
	bootDepth    = 4        // at a time
	compactEvery = 128      // segments
	bootGoal     = 1.5
)

// benchBoot compares what it takes until 64 MiB are read of a disk with o.blocks indexed blocks and of one with o.small: the engine starts
// with an empty home, opens the point, and serves reads of single blocks that lie in the same first gigabyte of both, as a system's do.
// Reads all over the big disk are stated beside it.
func benchBoot(ctx context.Context, o options, dir, far string, r *report) error {
	var disks [2]*booted
	for i, blocks := range []int{o.blocks, o.small} {
		began := time.Now()
		d, err := newBooted(ctx, o, filepath.Join(far, strconv.Itoa(i)), blocks)
		if err != nil {
			return err
		}
		say("made a vault of %d indexed blocks in %v", blocks, time.Since(began).Round(time.Second))
		disks[i] = d
	}
	load := fmt.Sprintf("%d blocks on %d GiB", o.blocks, int64(o.blocks)*blockEvery>>30)
	first := func(d *booted) func() (sample, error) { return func() (sample, error) { return d.boot(ctx, o.small) } }
	big, small, err := abba(o.rounds, first(disks[0]), first(disks[1]), func(i int, a, b sample) {
		say("boot round %d/%d: %.0f beside %.0f ms, %.0f beside %.0f MiB", i, o.rounds, a.value, b.value, a.rss/(1<<20), b.rss/(1<<20))
	})
	if err != nil {
		return err
	}
	peer := fmt.Sprintf("%d blocks on 1 GiB", o.small)
	r.figure("boot_ms", mean(big).value, "ms", "", load)
	r.figure("boot_ms", mean(small).value, "ms", peer, load)
	r.figure("boot_rss_mib", mean(big).rss/(1<<20), "MiB", "", load)
	r.figure("boot_rss_mib", mean(small).rss/(1<<20), "MiB", peer, load)
	r.atMost(bootGoal, "boot_time_ratio", byRound(big, small, rate), peer, load)
	r.atMost(bootGoal, "boot_rss_ratio", byRound(big, small, rss), peer, load)
	all, err := disks[0].boot(ctx, o.blocks)
	if err != nil {
		return err
	}
	r.figure("boot_all_over_ms", all.value, "ms", "", load)
	r.figure("boot_all_over_rss_mib", all.rss/(1<<20), "MiB", "", load)
	return nil
}

// booted is a vault that disks are booted from.
type booted struct {
	*sites
	dir string
	end uint64
	n   int
}

// newBooted makes a vault of a disk with an indexed block each blockEvery bytes, compacted as its keeper would.
func newBooted(ctx context.Context, o options, dir string, blocks int) (*booted, error) {
	s, err := newSites(o, filepath.Join(dir, "vault"))
	if err != nil {
		return nil, err
	}
	d := &booted{sites: s, dir: dir}
	appended := 0
	d.end, err = s.fill(ctx, int64(blocks)*blockEvery, blocks, func(i int, data []byte) (int64, int) {
		off := int64(i) * blockEvery
		binary.LittleEndian.PutUint64(data, uint64(off)+1)
		return off, blockBytes
	}, func(v *vault.Vault, seq uint64) error {
		if appended++; appended%compactEvery != 0 && seq <= uint64(blocks) {
			return nil
		}
		say("%d of %d blocks", min(seq, uint64(blocks)), blocks)
		_, err := v.Compact(ctx, stream)
		return err
	})
	return d, err
}

// boot starts an engine over the point and reads bootReads blocks, each once, out of the first n.
func (d *booted) boot(ctx context.Context, n int) (s sample, err error) {
	d.n++
	home := filepath.Join(d.dir, "home"+strconv.Itoa(d.n))
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	began := time.Now()
	e, err := d.drill(ctx, home, d.end)
	if err != nil {
		return s, err
	}
	if err := readBlocks(ctx, e.disk(), n); err != nil {
		return s, errors.Join(err, e.stop())
	}
	s.value = float64(time.Since(began).Microseconds()) / 1000
	s.rss, err = e.peakRSS()
	return s, errors.Join(err, e.stop())
}

// readBlocks reads and checks bootReads of the first n blocks, in an order of its own, which is the same each time.
func readBlocks(ctx context.Context, socket string, n int) error {
	c, err := nbd.Dial(ctx, "unix", socket, "root", nbd.DialOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	order := rand.New(rand.NewPCG(1, 12)).Perm(n)[:bootReads]
	var g errgroup.Group
	for k := range bootDepth {
		g.Go(func() error {
			p := make([]byte, 4096)
			for i := k; i < len(order); i += bootDepth {
				off := int64(order[i]) * blockEvery
				if err := c.ReadAt(ctx, p, off); err != nil {
					return err
				}
				if got := binary.LittleEndian.Uint64(p); got != uint64(off)+1 {
					return fmt.Errorf("block at %d holds %d, want %d", off, got, off+1)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// writeKey writes the vault's private key to a file.
func writeKey(path string, key *age.X25519Identity) error {
	return os.WriteFile(path, []byte(key.String()+"\n"), 0o600)
}
