package live

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/vault"
)

const (
	// letterGranule is what two sides compare.
	letterGranule = 64 << 10
	// branchBatch is how many bytes of records go into a branch at a time.
	branchBatch = 8 << 20
	yieldRetry  = 2 * time.Second
)

// keepYielding hands the past over when that is asked for: once, however often it has to begin anew.
func (m *Machine) keepYielding() {
	tick := time.NewTicker(yieldRetry)
	defer tick.Stop()
	for {
		m.mu.Lock()
		s := m.spec
		m.mu.Unlock()
		var err error
		if y := s.Yield; y != nil && s.Access == disk.ReadOnly && m.marks.Get("yield") != y.Branch {
			err = m.yield(m.ctx, s, *y)
		}
		m.mu.Lock()
		m.yieldNo = err
		m.mu.Unlock()
		select {
		case <-m.ctx.Done():
			return
		case <-m.poke[1]:
		case <-tick.C:
		}
	}
}

// yield keeps what this machine wrote and nobody has as a branch, and leaves the other side a letter that says what its disks
// hold wherever the two may differ. The disks are not written any more, so that doing it again gives the same.
func (m *Machine) yield(ctx context.Context, s Spec, y api.YieldConfig) error {
	home, err := s.Config.OpenVault(ctx, y.Home, "")
	if err != nil {
		return err
	}
	defer home.Close()
	u, err := standsOn(ctx, home, m.capture.Position())
	if err != nil {
		return err
	}
	dirty := m.capture.DirtyRanges()
	if u.less {
		dirty = m.everything()
	}
	into, err := s.Config.OpenVault(ctx, y.Into, "")
	if err != nil {
		return err
	}
	defer into.Close()
	changed, noLetter := m.changed(ctx, s, y, into)
	if noLetter == nil || !u.inGap {
		missing := dirty
		if u.inGap { // what was shipped since the base, in the gap: the other side has found it
			missing = m.whole(append(slices.Clone(changed), dirty...))
		}
		if err := m.branch(ctx, s, y, home, u.base, missing); err != nil {
			return fmt.Errorf("branch %s: %w", y.Branch, err)
		}
	}
	if noLetter != nil {
		return noLetter
	}
	l := engines.Letter{Machine: s.UID, Granule: letterGranule, Ranges: m.whole(append(changed, dirty...))}
	if l.Hashes, err = m.hashes(ctx, l.Ranges); err != nil {
		return err
	}
	if m.capture.Access() != disk.ReadOnly {
		return errors.New("the disks are written again")
	}
	b, err := l.Encode()
	if err != nil {
		return err
	}
	if err := into.PutMail(ctx, y.For, engines.MailBlocks, b); err != nil {
		return err
	}
	return m.marks.Set("yield", y.Branch)
}

// changed reads the other side's letter: what that knows to have changed here since the point that it began from.
func (m *Machine) changed(ctx context.Context, s Spec, y api.YieldConfig, into *engines.OpenedVault) ([]capture.Range, error) {
	b, err := into.GetMail(ctx, y.For, engines.MailChanged)
	if err != nil {
		return nil, fmt.Errorf("the other side's letter: %w", err)
	}
	l, err := engines.DecodeLetter(b, s.UID)
	if err != nil {
		return nil, err
	}
	for _, r := range l.Ranges {
		if int(r.Disk) >= len(m.lowers) || r.Off >= m.lowers[r.Disk].Size() {
			return nil, fmt.Errorf("the other side's letter: range %+v: it is outside this machine's %d disks", r, len(m.lowers))
		}
	}
	return l.Ranges, nil
}

func (m *Machine) everything() (out []capture.Range) {
	for i, l := range m.lowers {
		out = append(out, capture.Range{Disk: uint16(i), Len: l.Size()})
	}
	return out
}

// whole makes ranges whole granules, sorted and apart.
func (m *Machine) whole(ranges []capture.Range) (out []capture.Range) {
	for i, r := range ranges {
		end := min((r.Off+r.Len+letterGranule-1)/letterGranule*letterGranule, m.lowers[r.Disk].Size())
		off := r.Off / letterGranule * letterGranule
		ranges[i] = capture.Range{Disk: r.Disk, Off: off, Len: end - off}
	}
	slices.SortFunc(ranges, func(a, b capture.Range) int { return cmp.Or(cmp.Compare(a.Disk, b.Disk), cmp.Compare(a.Off, b.Off)) })
	for _, r := range ranges {
		if n := len(out); n > 0 && out[n-1].Disk == r.Disk && out[n-1].Off+out[n-1].Len >= r.Off {
			out[n-1].Len = max(out[n-1].Len, r.Off+r.Len-out[n-1].Off)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// hashes gives one for each granule.
func (m *Machine) hashes(ctx context.Context, ranges []capture.Range) (out [][]byte, err error) {
	buf := make([]byte, letterGranule)
	for _, r := range ranges {
		for at := r.Off; at < r.Off+r.Len; at += letterGranule {
			p := buf[:min(letterGranule, r.Off+r.Len-at)]
			if err := m.lowers[r.Disk].ReadAt(ctx, p, at); err != nil {
				return nil, fmt.Errorf("read disk %d: %w", r.Disk, err)
			}
			out = append(out, Hash(p))
		}
	}
	return out, nil
}

// Hash of a granule, as letters carry it.
func Hash(p []byte) []byte {
	sum := sha256.Sum256(p)
	return sum[:16]
}

// branch writes the dirty blocks as a stream of their own, on top of what is stored of this machine's.
func (m *Machine) branch(ctx context.Context, s Spec, y api.YieldConfig, home *engines.OpenedVault, base vault.Base, dirty []capture.Range) error {
	spec := vault.StreamSpec{ID: y.Branch, Epoch: s.Epoch, Machine: vault.Machine{UID: s.UID, Name: s.Machine}, Base: base}
	if have, err := home.Stream(ctx, y.Branch); err == nil {
		spec.Base = have.Base // an earlier attempt; since then the base may have been pruned to another position, but it holds this one
	} else if !errors.Is(err, vault.ErrNoStream) {
		return err
	}
	for i, d := range s.Disks {
		spec.Disks = append(spec.Disks, vault.Disk{ID: d.Name, Size: m.lowers[i].Size()})
	}
	w, err := home.Writer(ctx, spec)
	if err != nil {
		return err
	}
	defer w.Close()
	points, err := home.Points(ctx, y.Branch)
	if err != nil || slices.ContainsFunc(points, func(p vault.PointInfo) bool { return p.ID == y.Branch }) {
		return err // an earlier attempt wrote all of it
	}
	return m.writeBranch(ctx, w, y.Branch, dirty)
}

// under is what a branch stands on.
type under struct {
	base vault.Base
	// inGap: the base is a point before a gap that was never closed. What was shipped since is not dirty here any more.
	inGap bool
	// less: the vault has less than it once said that it had, or no point that is whole. Nothing is known of what it lacks.
	less bool
}

// standsOn finds a position that stays readable, from which on everything is dirty: the stream's end, or in a gap the newest point.
func standsOn(ctx context.Context, v *engines.OpenedVault, p capture.Position) (under, error) {
	info, err := v.Stream(ctx, p.Stream)
	if errors.Is(err, vault.ErrNoStream) {
		return under{less: p.Stored > 0}, nil // nothing ever arrived: the branch holds all there is
	}
	if err != nil {
		return under{}, err
	}
	u := under{base: vault.Base{Kind: "stream", Stream: p.Stream, Seq: info.Seq}, inGap: info.InGap(), less: info.Seq < p.Stored}
	if u.inGap {
		u.base.Seq = 0
		for _, x := range info.Points {
			u.base.Seq = max(u.base.Seq, x.Seq)
		}
		u.less = u.less || u.base.Seq == 0
	}
	if u.base.Seq == 0 || u.less {
		u.base = vault.Base{}
	}
	return u, nil
}

// writeBranch appends the blocks, and one point after them. It goes on behind what an attempt wrote that was cut short: what is dirty may
// be listed otherwise by now, so that positions do not tell what it had written.
func (m *Machine) writeBranch(ctx context.Context, w *vault.Writer, name string, dirty []capture.Range) error {
	var recs []journal.Record
	seq := w.Position()
	size := 0
	now := time.Now().UTC()
	flush := func() error {
		if len(recs) == 0 {
			return nil
		}
		_, err := w.Append(ctx, recs)
		recs, size = nil, 0
		return err
	}
	for _, r := range dirty {
		for at := r.Off; at < r.Off+r.Len; at += letterGranule {
			p := make([]byte, min(letterGranule, r.Off+r.Len-at))
			if err := m.lowers[r.Disk].ReadAt(ctx, p, at); err != nil {
				return fmt.Errorf("read disk %d: %w", r.Disk, err)
			}
			seq++
			recs = append(recs, journal.Record{Seq: seq, Kind: journal.Write, Disk: r.Disk, Off: at, Len: int64(len(p)), Data: p, Time: now.UnixNano()})
			if size += len(p); size >= branchBatch {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	seq++
	recs = append(recs, journal.Record{Seq: seq, Kind: journal.Point, Time: now.UnixNano(),
		Point: &journal.PointInfo{ID: name, At: now, Consistency: journal.Crash, Tag: "branch", Notes: "what was never shipped"}})
	return flush()
}
