package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/nbd"
)

const (
	// A disk that a scribe writes has scribeSlots blocks; record n goes into slot n modulo scribeSlots.
	scribeBlock = 4096
	scribeSlots = 1024
	scribeSize  = scribeBlock * scribeSlots
	scribePace  = 20 * time.Millisecond
)

// scribe writes numbered records to a served disk, each durable, until it is stopped or refused.
type scribe struct {
	acked  atomic.Uint64
	slow   atomic.Int64 // the longest write, in nanoseconds
	err    error        // why it ended by itself; read after stop
	cancel context.CancelFunc
	done   chan struct{}
}

// startScribe begins after record from.
func startScribe(ctx context.Context, socket string, from uint64) (*scribe, error) {
	c, err := dialDisk(ctx, socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &scribe{cancel: cancel, done: make(chan struct{})}
	s.acked.Store(from)
	go func() {
		defer close(s.done)
		defer c.Close()
		block := make([]byte, scribeBlock)
		for n := from + 1; sleep(ctx, scribePace) == nil; n++ {
			binary.BigEndian.PutUint64(block, n)
			began := time.Now()
			if s.err = c.WriteAt(ctx, block, int64(n%scribeSlots)*scribeBlock, true); s.err != nil {
				return
			}
			s.acked.Store(n)
			s.slow.Store(max(s.slow.Load(), int64(time.Since(began))))
		}
	}()
	return s, nil
}

// stop ends it and gives the last record that was acknowledged.
func (s *scribe) stop() uint64 {
	s.cancel()
	<-s.done
	return s.acked.Load()
}

func dialDisk(ctx context.Context, socket string) (c *nbd.Client, err error) {
	if !waitFor(ctx, 30*time.Second, func() bool {
		c, err = nbd.Dial(ctx, "unix", socket, "root", nbd.DialOptions{})
		return err == nil
	}) {
		return nil, fmt.Errorf("the disk at %s is not served after 30s: %w", socket, err)
	}
	return c, nil
}

// readScribe gives the last record on a disk. The disk must hold just what was there when it was written.
func readScribe(ctx context.Context, socket string) (last uint64, err error) {
	c, err := dialDisk(ctx, socket)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	disk := make([]byte, scribeSize)
	if err := c.ReadAt(ctx, disk, 0); err != nil {
		return 0, err
	}
	return checkScribe(disk)
}

func checkScribe(disk []byte) (last uint64, err error) {
	at := func(slot uint64) uint64 { return binary.BigEndian.Uint64(disk[slot*scribeBlock:]) }
	for slot := range uint64(scribeSlots) {
		last = max(last, at(slot))
	}
	for slot := range uint64(scribeSlots) {
		want := uint64(0) // the newest record up to last whose slot it is
		if back := (last%scribeSlots + scribeSlots - slot) % scribeSlots; back < last {
			want = last - back
		}
		if got := at(slot); got != want {
			return last, fmt.Errorf("slot %d holds record %d, want %d: the newest is %d", slot, got, want, last)
		}
	}
	return last, nil
}

// newScribeDisk makes an empty disk at a path.
func newScribeDisk(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(scribeSize), f.Close())
}
