package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/engines/live"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/vault"
	"github.com/understudy-ha/understudy/volume"
)

const shipRetry = 2 * time.Second

// keepShipping begins to ship once that is asked for and can be.
func (e *engine) keepShipping() {
	tick := time.NewTicker(shipRetry)
	defer tick.Stop()
	for {
		if err := e.ship(); e.ctx.Err() == nil {
			e.mu.Lock()
			e.shipNo = err
			e.mu.Unlock()
		}
		select {
		case <-e.ctx.Done():
			return
		case <-e.poke:
		case <-tick.C:
		}
	}
}

// ship finds out what of this machine the far side does not have, marks it as dirty, and starts shipping.
func (e *engine) ship() error {
	e.mu.Lock()
	c, m := e.cfg, e.machine
	e.mu.Unlock()
	p := c.Section.Site
	if m == nil || p == nil || p.Ship == nil || p.Mode != "writable" {
		return nil
	}
	begun := e.marks.Get("ship") == p.Capture
	if begun && !e.initial(m) {
		return nil
	}
	ranges, err := e.differing(e.ctx, c, m)
	if err != nil || begun {
		return err
	}
	if err := m.Capture().AddDirty(ranges); err != nil {
		return err
	}
	if err := e.marks.Set("ship", p.Capture); err != nil {
		return err
	}
	e.setting.Lock() // a newer config is taken up before, or after: this one must not come in its place
	defer e.setting.Unlock()
	e.mu.Lock()
	now, c := e.machine, e.cfg
	e.mu.Unlock()
	if now != m || c.Section.Site == nil || c.Section.Site.Mode != "writable" {
		return nil // the newest config was taken up with the mark, or will be
	}
	return m.Set(e.ctx, e.spec(c))
}

// initial tells whether this process must still be told what the far side has.
func (e *engine) initial(m *live.Machine) bool {
	p := m.Capture().Position()
	e.mu.Lock()
	defer e.mu.Unlock()
	return p.InGap && p.GapFrom <= 1 && !e.told
}

// differing gives where this machine's disks may differ from what the stream stands on; nil: everywhere. Where the old
// primary's letter says what it has, the capture is told to compare.
func (e *engine) differing(ctx context.Context, c engines.Config, m *live.Machine) ([]capture.Range, error) {
	p := c.Section.Site
	switch p.Ship.Base {
	case "none":
		return nil, nil
	case "stream":
		return e.written(ctx, p)
	case "disk":
		return e.compared(ctx, c, m)
	}
	return nil, fmt.Errorf("ship.base %q: want none, disk or stream", p.Ship.Base)
}

// written gives what the machine wrote since it left the stream that it now stands on again: what is in the point's own stream, what was
// compared before that and is not in it because it was alike, and what was written here; nil, everything, if nobody knows what was compared.
func (e *engine) written(ctx context.Context, p *api.SiteConfig) ([]capture.Range, error) {
	out := []capture.Range{}
	v, err := e.point(ctx)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	for i := range p.Disks {
		d := v.Disk(i)
		err := d.InStream(ctx, 0, d.Size(), func(off, n int64) bool {
			out = append(out, capture.Range{Disk: uint16(i), Off: off, Len: n})
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	b, err := v.vault.GetMail(ctx, p.Stream, engines.MailBlocks)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l, err := engines.DecodeLetter(b, p.UID)
	if err != nil {
		return nil, err
	}
	return append(append(out, l.Ranges...), e.here()...), nil
}

// here gives what was written here.
func (e *engine) here() (out []capture.Range) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, v := range e.volumes {
		v.Written(func(r volume.Range) bool {
			out = append(out, capture.Range{Disk: uint16(i), Off: r.Off, Len: r.Len})
			return true
		})
	}
	return out
}

// openedView is a view with the vault it is of.
type openedView struct {
	*vault.View
	vault *engines.OpenedVault
}

func (v openedView) Close() { v.View.Close(); v.vault.Close() }

// point opens the point that the machine was recovered to, anew: it may be whole by now and have let go of it.
func (e *engine) point(ctx context.Context) (openedView, error) {
	e.mu.Lock()
	c := e.cfg
	e.mu.Unlock()
	p := c.Section.Site
	return openView(ctx, c, p.Vault, p.Stream, p.Seq)
}

func openView(ctx context.Context, c engines.Config, a api.VaultAccess, stream string, seq uint64) (openedView, error) {
	v, err := c.OpenVault(ctx, a, "")
	if err != nil {
		return openedView{}, err
	}
	w, err := v.View(ctx, stream, seq)
	if err != nil {
		v.Close()
		return openedView{}, err
	}
	return openedView{w, v}, nil
}

// compared exchanges letters with the old primary.
func (e *engine) compared(ctx context.Context, c engines.Config, m *live.Machine) ([]capture.Range, error) {
	p := c.Section.Site
	into, err := c.OpenVault(ctx, p.Ship.Into, "")
	if err != nil {
		return nil, err
	}
	defer into.Close()
	if e.marks.Get("changed") != p.Capture {
		changed, err := e.changed(ctx, c)
		if err != nil {
			return nil, err
		}
		b, err := engines.Letter{Machine: p.UID, Granule: granule, Ranges: whole(append(changed, e.here()...))}.Encode()
		if err != nil {
			return nil, err
		}
		if err := into.PutMail(ctx, p.Capture, engines.MailChanged, b); err != nil {
			return nil, err
		}
		if err := e.marks.Set("changed", p.Capture); err != nil {
			return nil, err
		}
	}
	b, err := into.GetMail(ctx, p.Capture, engines.MailBlocks)
	if err != nil {
		return nil, fmt.Errorf("the old primary's letter: %w", err)
	}
	l, err := engines.DecodeLetter(b, p.UID)
	if err != nil {
		return nil, err
	}
	m.Capture().SetSame(holds(l))
	e.mu.Lock()
	e.told = true
	e.mu.Unlock()
	return append(append([]capture.Range{}, l.Ranges...), e.here()...), nil // never nil: that would be everything
}

const granule = 64 << 10

// whole makes ranges begin and end with granules; a disk's end is left to who reads the letter.
func whole(ranges []capture.Range) []capture.Range {
	for i, r := range ranges {
		off := r.Off / granule * granule
		ranges[i] = capture.Range{Disk: r.Disk, Off: off, Len: (r.Off + r.Len - off + granule - 1) / granule * granule}
	}
	return ranges
}

// changed gives what the old stream wrote after the point that was chosen: the old primary's disks have it, this machine's have not.
func (e *engine) changed(ctx context.Context, c engines.Config) (out []capture.Range, err error) {
	p := c.Section.Site
	v, err := c.OpenVault(ctx, p.Vault, "")
	if err != nil {
		return nil, err
	}
	defer v.Close()
	info, err := v.Stream(ctx, p.Stream)
	if err != nil {
		return nil, err
	}
	switch {
	case info.Seq <= p.Seq:
		return nil, nil
	case info.InGap():
		return changedInGap(ctx, v, info, p.Seq)
	}
	w, err := v.View(ctx, p.Stream, info.Seq)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	for i := range p.Disks {
		err := w.Disk(i).Changed(ctx, p.Seq, func(off, n int64) bool {
			out = append(out, capture.Range{Disk: uint16(i), Off: off, Len: n})
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// changedInGap is changed where the old primary was lost while a gap was being closed. What it had shipped of that is not dirty there any
// more, and no view of it is to be had: it is in the records, or else all of the disks may have changed.
func changedInGap(ctx context.Context, v *engines.OpenedVault, info vault.StreamInfo, since uint64) (out []capture.Range, err error) {
	blocks := map[capture.Range]bool{}
	err = v.Records(ctx, info.ID, since, info.Seq, func(r *journal.Record) error {
		if r.Kind == journal.Write || r.Kind == journal.Zero {
			for at := r.Off / granule * granule; at < r.Off+r.Len; at += granule {
				blocks[capture.Range{Disk: r.Disk, Off: at, Len: granule}] = true
			}
		}
		return nil
	})
	if errors.Is(err, vault.ErrNotKept) {
		for i, d := range info.Disks {
			out = append(out, capture.Range{Disk: uint16(i), Len: d.Size})
		}
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(blocks)), nil
}

// holds tells of blocks whether the old primary has them.
func holds(l engines.Letter) func(disk uint16, off int64, data []byte) bool {
	type place struct {
		disk uint16
		off  int64
	}
	has := map[place][]byte{}
	i := 0
	for _, r := range l.Ranges {
		for at := r.Off; at < r.Off+r.Len && i < len(l.Hashes); at += l.Granule {
			has[place{r.Disk, at}] = l.Hashes[i]
			i++
		}
	}
	return func(disk uint16, off int64, data []byte) bool {
		if len(data) == 0 {
			return false
		}
		for at := int64(0); at < int64(len(data)); at += l.Granule {
			if !bytes.Equal(has[place{disk, off + at}], live.Hash(data[at:min(at+l.Granule, int64(len(data)))])) {
				return false
			}
		}
		return true
	}
}
