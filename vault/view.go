package vault

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/understudy-ha/understudy/journal"
)

// View is a stream's disks as they were at one position. It never changes. It is safe for concurrent use.
//
// A view pins what it reads until Close, and renews the pin by itself. What a view reads that could not renew its pin for Tuning.PinFor may be
// collected: it opens itself again at its position (unless Tuning.Quiet is set), and where that fails, because the position is not kept any more
// or the vault is out of reach, a read fails with ErrPinLost.
type View struct {
	v       *Vault
	info    StreamInfo
	seq     uint64
	base    Base
	sources []source // the newest first
	shelf   *shelf
	cache   *cache
	flight  singleflight.Group
	objects uint32
	whole   bool // segments are read whole when they are opened, and kept
	own     int  // how many sources are of the stream itself, not of what it stands on

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	pins   map[string]*pin // by key
	next   *View           // in this one's place
}

// source is a layer or a merged run of segments.
type source interface {
	// each gives the extents that overlap [off, end) of a disk, in order, until yield gives false.
	each(ctx context.Context, disk uint16, off, end int64, yield func(found) bool) error
	// to is the last position in it.
	to() uint64
}

// found is an extent and the object that holds its bytes.
type found struct {
	journal.Extent
	object uint32
	seg    *journal.Segment
}

// View opens a stream at a kept position: a recovery point, a position that another stream stands on, the end, or one whose segments
// have not been dropped yet. ErrNotKept, ErrInGap, ErrNoStream and ErrNoIdentity say why not. How long it takes depends on the segments
// after the newest layer, not on the size of the disks. ctx is for opening only. Close the view.
func (v *Vault) View(ctx context.Context, stream string, seq uint64) (*View, error) {
	if _, err := v.identities("view", stream); err != nil {
		return nil, err
	}
	w, err := v.newView(ctx, seq, v.opt.CacheBytes)
	if err == nil {
		err = w.open(ctx, stream, seq, true)
	}
	return w.started(err)
}

// newView makes a view without sources.
func (v *Vault) newView(ctx context.Context, seq uint64, cached int64) (*View, error) {
	w := &View{v: v, seq: seq, pins: map[string]*pin{}}
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.shelf = newShelf(w.ctx)
	var err error
	w.cache, err = newCache(v.opt.Cache, cached)
	return w, err
}

// started begins to renew the pins of a view that could be opened, and closes one that could not.
func (w *View) started(err error) (*View, error) {
	if err != nil {
		w.Close()
		return nil, err
	}
	if !w.v.tune.Quiet {
		w.done.Go(w.renewing)
	}
	return w, nil
}

// Seq is the view's position.
func (w *View) Seq() uint64 { return w.seq }

// Info describes the stream as it was when the view was opened, without its points.
func (w *View) Info() StreamInfo { return w.info }

// Disks is the number of disks.
func (w *View) Disks() int { return len(w.info.Disks) }

// Disk gives one disk by its index in the stream. It panics on an index that is not there, as a slice does.
func (w *View) Disk(i int) *ViewDisk {
	return &ViewDisk{w: w, disk: uint16(i), spec: w.info.Disks[i]}
}

// Layers is the number of layers and merged runs of segments that a read may have to look through.
func (w *View) Layers() int { return len(w.sources) }

// block gives bytes of a block into p, from the cache or from the store.
func (w *View) block(ctx context.Context, f found, p []byte, pos int64) error {
	id := blockID{f.object, f.Block}
	if w.cache.get(id, p, pos) {
		return nil
	}
	key := strconv.FormatUint(uint64(id.object)<<32|uint64(id.block), 36)
	b, err := once(ctx, &w.flight, key, func() (any, error) {
		b, err := f.seg.Block(f.Block)
		if err == nil {
			w.cache.put(id, b)
		}
		return b, err
	})
	if err != nil {
		return err
	}
	if n := copy(p, b.([]byte)[pos:]); n != len(p) {
		return fmt.Errorf("block %d has %d of %d bytes", f.Block, n, len(p))
	}
	return nil
}

// alive refuses reads without a pin.
func (w *View) alive() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		return fail("read", w.info.ID, ErrPinLost, "the view is closed")
	}
	now := w.v.opt.Now()
	for key, p := range w.pins {
		if !now.Before(p.Expires) {
			return fail("read", key, ErrPinLost, "it ran out at %s; open the view again", p.Expires.Format(time.RFC3339))
		}
	}
	return nil
}

// Renew renews the pins now. Views do it by themselves unless Tuning.Quiet is set.
func (w *View) Renew(ctx context.Context) error {
	if err := w.alive(); err != nil {
		return err
	}
	for key, p := range w.pins {
		fresh := *p
		if err := w.v.putPin(ctx, key, &fresh); err != nil {
			return err
		}
		w.mu.Lock()
		p.Expires = fresh.Expires
		w.mu.Unlock()
	}
	return nil
}

func (w *View) renewing() {
	every := w.v.tune.PinFor / 4
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-time.After(every):
		}
		if w.replaced() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(w.ctx, every)
		if w.Renew(ctx) != nil {
			every = w.v.tune.PinFor / 16
		} else {
			every = w.v.tune.PinFor / 4
		}
		cancel()
	}
}

// Close ends the view and takes its pins away. Closing twice is safe. An error means that a pin may stay until it runs out.
func (w *View) Close() error {
	w.mu.Lock()
	closed, next := w.ctx.Err() != nil, w.next
	w.cancel()
	w.mu.Unlock()
	if closed {
		return nil
	}
	w.done.Wait()
	var errs []error
	if next != nil {
		errs = append(errs, next.Close())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), 10*time.Second)
	defer cancel()
	for key := range w.pins {
		errs = append(errs, w.v.store.Delete(ctx, key))
	}
	if w.cache != nil {
		errs = append(errs, w.cache.close())
	}
	return errors.Join(errs...)
}
