package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/nbd"
)

// guestDisks are the disks of the machine under load; all of the same size.
var guestDisks = []string{"root", "data"}

const (
	guestDiskSize = 16 << 20
	diskSectors   = guestDiskSize / sectorSize
	guestLanes    = 4
	laneRate      = 40  // requests a second of one lane, at most
	longestWrite  = 64  // sectors, but for a few
	hugeWrite     = 512 // sectors
)

// load is a guest that writes to its disks in several lanes at once. Like a guest, it does not know that the capture below
// it dies: requests that were under way are sent again.
type load struct {
	h      *history
	socket string
	stop   context.CancelFunc
	lanes  sync.WaitGroup
	gate   sync.RWMutex // lanes hold it for reading while a request is under way
	places placeLocks

	mu      sync.Mutex
	errs    []string // what the disks answered and must not
	failed  int
	longest time.Duration // of a request that was not interrupted, since it was asked for last
	overall time.Duration
	away    time.Duration // the longest time without a capture process
	reads   int
	flushes int
}

func startLoad(ctx context.Context, h *history, socket string) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{h: h, socket: socket, stop: stop}
	for i := range guestLanes {
		rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(i)))
		l.lanes.Go(func() { l.lane(ctx, rng) })
	}
	return l
}

func (l *load) end() {
	l.stop()
	l.lanes.Wait()
}

// pause waits until nothing is under way and lets nothing begin before resume.
func (l *load) pause()  { l.gate.Lock() }
func (l *load) resume() { l.gate.Unlock() }

// slowest gives the longest request since the last call.
func (l *load) slowest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.longest
	l.longest = 0
	return d
}

func (l *load) lane(ctx context.Context, rng *rand.Rand) {
	c := &guestClient{l: l, disks: make([]*nbd.Client, len(guestDisks))}
	defer c.hangUp()
	for ctx.Err() == nil {
		l.gate.RLock()
		l.request(ctx, c, rng)
		l.gate.RUnlock()
		_ = sleep(ctx, time.Duration(rng.Float64()*2*float64(time.Second)/laneRate))
	}
}

// request does one: mostly a write, now and then a flush, zeroes, or a look at what was written.
func (l *load) request(ctx context.Context, c *guestClient, rng *rand.Rand) {
	disk := rng.IntN(len(guestDisks))
	if rng.IntN(16) == 0 {
		c.do(ctx, disk, func(d *nbd.Client) error { return d.Flush(ctx) }, nil)
		l.mu.Lock()
		l.flushes++
		l.mu.Unlock()
		return
	}
	n := 1 + rng.Uint32N(longestWrite)
	if rng.IntN(64) == 0 {
		n = hugeWrite
	}
	at := rng.Uint32N(diskSectors - n)
	if rng.IntN(2) == 0 { // half of all go to a sixteenth of the disk
		at = rng.Uint32N(diskSectors/16 - n)
	}
	place := uint32(disk)*diskSectors + at
	if !l.places.take(place, n) {
		return
	}
	defer l.places.leave(place)
	off, fua := int64(at)*sectorSize, rng.IntN(10) == 0
	switch k := rng.IntN(12); k {
	case 0:
		l.look(ctx, c, disk, place, n)
	case 1:
		trim := rng.IntN(2) == 0
		q := l.h.begin(place, n, true)
		if c.do(ctx, disk, func(d *nbd.Client) error { return d.Zero(ctx, off, int64(n)*sectorSize, trim, fua) }, func() { l.h.again(q) }) {
			l.h.end(q)
		}
	default:
		q := l.h.begin(place, n, false)
		p := l.h.data(q)
		if c.do(ctx, disk, func(d *nbd.Client) error { return d.WriteAt(ctx, p, off, fua) }, func() { l.h.again(q) }) {
			l.h.end(q)
		}
	}
}

// look reads a range that nobody writes: it is what was written last.
func (l *load) look(ctx context.Context, c *guestClient, disk int, place, n uint32) {
	p := make([]byte, n*sectorSize)
	if !c.do(ctx, disk, func(d *nbd.Client) error { return d.ReadAt(ctx, p, int64(place%diskSectors)*sectorSize) }, nil) {
		return
	}
	l.mu.Lock()
	l.reads++
	l.mu.Unlock()
	if err := l.h.exact(p, place); err != nil {
		l.wrong("read disk %s: %v", guestDisks[disk], err)
	}
}

// exact checks a range that nobody writes: every sector is from the last write to it.
func (h *history) exact(p []byte, place uint32) error {
	for i := range uint32(len(p) / sectorSize) {
		s := p[i*sectorSize:][:sectorSize]
		h.mu.Lock()
		all := h.places[place+i]
		var last op
		var q uint32
		if len(all) > 0 {
			q = all[len(all)-1]
			last = h.ops[q-1]
		}
		h.mu.Unlock()
		want := make([]byte, sectorSize)
		if q != 0 && !last.zero {
			want = h.data(q)[(place+i-last.place)*sectorSize:][:sectorSize]
		}
		if !bytes.Equal(s, want) {
			return fmt.Errorf("sector %d is not from write %d, the last: % x…", place+i, q, s[:40])
		}
	}
	return nil
}

func (l *load) wrong(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed++
	if len(l.errs) < 5 {
		l.errs = append(l.errs, fmt.Sprintf(format, args...))
	}
}

func (l *load) took(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest, l.overall = max(l.longest, d), max(l.overall, d)
}

// guestClient is a lane's connections.
type guestClient struct {
	l     *load
	disks []*nbd.Client
}

// do sends a request until it is answered; again is called before it is sent once more. It tells false if the load ended first.
func (c *guestClient) do(ctx context.Context, disk int, send func(*nbd.Client) error, again func()) bool {
	began := time.Now()
	for tries := 0; ctx.Err() == nil; tries++ {
		d := c.disks[disk]
		if d == nil {
			var err error
			if d, err = nbd.Dial(ctx, "unix", c.l.socket, guestDisks[disk], nbd.DialOptions{}); err != nil {
				_ = sleep(ctx, 20*time.Millisecond)
				continue
			}
			c.disks[disk] = d
		}
		sent := time.Now()
		err := send(d)
		switch {
		case err == nil:
			c.l.took(time.Since(sent))
			if tries > 0 {
				c.l.mu.Lock()
				c.l.away = max(c.l.away, time.Since(began))
				c.l.mu.Unlock()
			}
			return true
		case ctx.Err() != nil:
			return false
		case !errors.Is(err, nbd.ErrDisconnected) && !errors.Is(err, nbd.ErrShutdown):
			c.l.wrong("disk %s: %v", guestDisks[disk], err)
			_ = sleep(ctx, 100*time.Millisecond)
		}
		_ = d.Close()
		c.disks[disk] = nil
		if again != nil {
			again()
		}
	}
	return false
}

func (c *guestClient) hangUp() {
	for _, d := range c.disks {
		if d != nil {
			_ = d.Close()
		}
	}
}

// placeLocks keep requests that overlap apart.
type placeLocks struct {
	mu    sync.Mutex
	taken map[uint32]uint32 // first sector: number
}

// take tells false if somebody has a part of it.
func (p *placeLocks) take(place, n uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, m := range p.taken {
		if place < at+m && at < place+n {
			return false
		}
	}
	if p.taken == nil {
		p.taken = map[uint32]uint32{}
	}
	p.taken[place] = n
	return true
}

func (p *placeLocks) leave(place uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, place)
}
