package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/vault"
)

// settleLimit bounds how long the path may take to be whole again, on a loaded machine.
const settleLimit = 2 * time.Minute

// whole waits until the far side could recover the machine again.
func (l *pathLab) whole(ctx context.Context) error {
	_, err := l.until(ctx, roleProtect, "protected", settleLimit, func(s api.EngineState) bool { return s.Protection == "protected" })
	return err
}

// disks reads the machine's disks, one behind the other, past everything that serves them.
func (l *pathLab) disks() ([]byte, error) {
	var all []byte
	for _, d := range l.protect.Disks {
		b, err := os.ReadFile(d.Path)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// onDisk checks, while no capture runs, that everything that was answered is on the protected disks: flushed or not.
func (l *pathLab) onDisk() error {
	now := time.Now().UnixNano()
	image, err := l.disks()
	if err != nil {
		return err
	}
	return l.h.judge(image, bounds{answeredBy: now})
}

// image reads a point's disks. A point that was pruned meanwhile is vault.ErrNotKept.
func (l *pathLab) image(ctx context.Context, v *engines.OpenedVault, seq uint64) ([]byte, error) {
	view, err := v.View(ctx, pathStream, seq)
	if err != nil {
		return nil, err
	}
	all := make([]byte, len(guestDisks)*guestDiskSize)
	for i := range guestDisks {
		if _, err := view.Disk(i).ReadAt(ctx, all[i*guestDiskSize:][:guestDiskSize], 0); err != nil && err != io.EOF {
			return nil, errors.Join(fmt.Errorf("read disk %s at %d: %w", guestDisks[i], seq, err), view.Close())
		}
	}
	return all, view.Close()
}

// openPoint opens a point that is kept, chosen by chance, and judges it. It tells false if none could be opened.
func (l *pathLab) openPoint(ctx context.Context, rng *rand.Rand) (bool, error) {
	points := l.watch.newest()
	if len(points) == 0 {
		return false, nil
	}
	v, err := l.openVault(ctx)
	if err != nil {
		return false, err
	}
	defer v.Close()
	p := points[rng.IntN(len(points))]
	image, err := l.image(ctx, v, p.Seq)
	if errors.Is(err, vault.ErrNotKept) || errors.Is(err, vault.ErrNoStream) {
		return false, nil // pruned since it was listed
	}
	if err != nil {
		return false, fmt.Errorf("point %d: %w", p.Seq, err)
	}
	if err := l.h.judge(image, bounds{answeredBy: p.At.UnixNano(), sentBy: l.watch.madeBy(p.Seq)}); err != nil {
		return true, fmt.Errorf("point %d of %s: %w", p.Seq, p.At.Format(time.TimeOnly), err)
	}
	return true, nil
}

// compare makes everything quiet, makes a point, and compares source and vault, byte for byte. The load goes on afterwards.
func (l *pathLab) compare(ctx context.Context, name string) error {
	l.load.pause()
	defer l.load.resume()
	l.protect.PointNow = name
	if err := l.configureProtect(); err != nil {
		return err
	}
	if err := l.homes[roleProtect].Set(ctx); err != nil {
		return err
	}
	s, err := l.until(ctx, roleProtect, "quiet", settleLimit, func(s api.EngineState) bool {
		return s.Done == name && s.Protection == "protected" && s.Changes.Dirty == 0 && s.Stored >= s.LastPointSeq && s.LastPointSeq != 0
	})
	if err != nil {
		return err
	}
	source, err := l.disks()
	if err != nil {
		return err
	}
	if err := l.h.judge(source, bounds{answeredBy: time.Now().UnixNano()}); err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	v, err := l.openVault(ctx)
	if err != nil {
		return err
	}
	defer v.Close()
	copied, err := l.image(ctx, v, s.LastPointSeq)
	if err != nil {
		return err
	}
	if !bytes.Equal(source, copied) {
		return fmt.Errorf("%w: the vault at point %d is not the source: first at sector %d", errImage, s.LastPointSeq, firstOther(source, copied))
	}
	return nil
}

func firstOther(a, b []byte) int {
	for s := 0; s < len(a); s += sectorSize {
		if !bytes.Equal(a[s:s+sectorSize], b[s:s+sectorSize]) {
			return s / sectorSize
		}
	}
	return -1
}

// tail gives the end of a role's log, for a failure's detail.
func (l *pathLab) tail(role string) string {
	b, err := os.ReadFile(filepath.Join(l.logs, role+".log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}
