package server

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/controller"
	"github.com/understudy-ha/understudy/health"
	"github.com/understudy-ha/understudy/probe"
)

// probing runs this controller's own probes. Setting targets may wait for probes under way, so it has a goroutine.
type probing struct {
	rt  *runtime
	new chan []controller.Target // length 1, the newest wins

	mu     sync.Mutex
	byID   map[string]controller.Target
	counts map[string][3]prometheus.Counter // by id and outcome
}

func newProbing(rt *runtime) *probing {
	return &probing{rt: rt, new: make(chan []controller.Target, 1), byID: map[string]controller.Target{}, counts: map[string][3]prometheus.Counter{}}
}

// set is called by the loop only.
func (p *probing) set(ts []controller.Target) {
	select {
	case <-p.new:
	default:
	}
	p.new <- ts
}

func (p *probing) run(ctx context.Context) {
	s := probe.New(p.result)
	defer s.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case ts := <-p.new:
			if err := s.Set(p.targets(ts)); err != nil {
				slog.Error("set probes", "err", err)
			}
		}
	}
}

// targets translates; one that the prober would refuse is left out, so that it does not stop the others.
func (p *probing) targets(ts []controller.Target) []probe.Target {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byID = map[string]controller.Target{}
	counts := map[string][3]prometheus.Counter{}
	var out []probe.Target
	for _, t := range ts {
		addr, err := netip.ParseAddrPort(t.Address)
		pt := probe.Target{ID: t.Group.String() + "/" + t.Member, Protocol: probe.Protocol(t.Probe.Protocol), Address: addr, Path: t.Probe.Path,
			Interval: t.Probe.Interval.D(), Timeout: t.Probe.Timeout.D(), Fall: t.Probe.Fall}
		if err == nil {
			err = pt.Validate()
		}
		if err != nil {
			slog.Error("probe target", "group", t.Group, "member", t.Member, "err", err)
			continue
		}
		out = append(out, pt)
		p.byID[pt.ID] = t
		counts[pt.ID] = p.counters(t)
	}
	p.counts = counts
	return out
}

func (p *probing) counters(t controller.Target) (c [3]prometheus.Counter) {
	for o := probe.OK; o <= probe.Inconclusive; o++ {
		c[o] = p.rt.s.metrics.probes.WithLabelValues(t.Group.Tenant, t.Group.Name, t.Member, o.String())
	}
	return c
}

// result is called by the prober's goroutines and must not wait.
func (p *probing) result(r probe.Result) {
	p.mu.Lock()
	t, ok := p.byID[r.Target]
	c := p.counts[r.Target]
	p.mu.Unlock()
	if !ok {
		return
	}
	c[r.Outcome].Inc()
	ev := controller.Probed{Group: t.Group, Member: t.Member, Detail: r.Detail, Outcome: outcomes[r.Outcome]}
	select {
	case p.rt.loop.events <- ev:
	default:
		p.rt.s.metrics.dropped.WithLabelValues("probe results").Inc()
	}
}

var outcomes = [...]health.Outcome{probe.OK: health.OK, probe.Fail: health.Fail, probe.Inconclusive: health.Inconclusive}
