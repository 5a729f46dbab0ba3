package lab

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/vault"
)

// watch looks at the capture ten times a second, and at the vault twice, whatever happens to them.
type watch struct {
	l    *pathLab
	stop context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex
	samples  int
	broken   []string // samples in which captured = stored + dirty did not hold
	looks    int
	offered  int // points seen at the vault
	inGap    []string
	gap      time.Duration // without every write stored or on its way
	gaps     int           // seen at the vault
	layers   int           // the most seen at the vault
	resync   int64         // bytes, in all lives of the capture
	points   []vault.PointInfo
	seenAt   map[uint64]int64 // by position of a point: when it was surely made
	sampled  time.Time
	wasInGap bool
	life     int64 // bytes read again in this life of the capture
}

func startWatch(ctx context.Context, l *pathLab) *watch {
	ctx, stop := context.WithCancel(ctx)
	w := &watch{l: l, stop: stop, seenAt: map[uint64]int64{}}
	w.work.Go(func() {
		for sleep(ctx, 100*time.Millisecond) == nil {
			if s, err := l.ask(ctx, roleProtect); err == nil {
				w.sample(s, time.Now())
			}
		}
	})
	w.work.Go(func() { w.lookAtVault(ctx) })
	return w
}

func (w *watch) end() {
	w.stop()
	w.work.Wait()
}

func (w *watch) sample(s api.EngineState, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples++
	if !s.Changes.Hold() && len(w.broken) < 5 {
		w.broken = append(w.broken, fmt.Sprintf("%+v in %s", s.Changes, s.Phase))
	}
	if w.wasInGap && !w.sampled.IsZero() {
		w.gap += now.Sub(w.sampled)
	}
	w.sampled, w.wasInGap = now, s.Protection == "gap"
	w.life = s.ResyncBytes
	if s.LastPointSeq != 0 && w.seenAt[s.LastPointSeq] == 0 {
		w.seenAt[s.LastPointSeq] = now.UnixNano()
	}
}

// born says that another life of the capture begins.
func (w *watch) born() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resync, w.life = w.resync+w.life, 0
}

// openVault opens the vault by the lab's own way.
func (l *pathLab) openVault(ctx context.Context) (*engines.OpenedVault, error) {
	c := l.config(api.Section{})
	return c.OpenVault(ctx, l.vault(l.store), "")
}

func (w *watch) lookAtVault(ctx context.Context) {
	var v *engines.OpenedVault
	defer func() {
		if v != nil {
			_ = v.Close()
		}
	}()
	for sleep(ctx, 500*time.Millisecond) == nil {
		if v == nil {
			v, _ = w.l.openVault(ctx) // the object server may be down
			continue
		}
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		if info, err := v.Stream(limited, pathStream); err == nil {
			w.look(info)
		}
		cancel()
	}
}

func (w *watch) look(info vault.StreamInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	w.points, w.gaps, w.layers = info.Points, max(w.gaps, len(info.Gaps)), max(w.layers, info.Layers)
	w.offered = max(w.offered, len(info.Points))
	for _, p := range info.Points {
		for _, g := range info.Gaps {
			if p.Seq >= g.From && (g.To == 0 || p.Seq <= g.To) && len(w.inGap) < 5 {
				w.inGap = append(w.inGap, fmt.Sprintf("point %d, gap %d to %d", p.Seq, g.From, g.To))
			}
		}
	}
}

// newest gives the points that the vault offers now.
func (w *watch) newest() []vault.PointInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.points
}

// madeBy tells when a point was surely made, unix nanoseconds; 0: nobody saw it in time.
func (w *watch) madeBy(seq uint64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seenAt[seq]
}

func (w *watch) resyncBytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.resync + w.life
}
