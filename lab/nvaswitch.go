package lab

import (
	"context"
	"time"
)

func runNVASwitch(ctx context.Context, o Options) (r Result, err error) {
	l, err := newNVALab(ctx, o.Binary, o.Progress)
	defer func() {
		if e := l.close(); err == nil {
			err = e
		}
	}()
	if err != nil {
		return r, err
	}
	for _, advert := range []time.Duration{time.Second, 100 * time.Millisecond} {
		if err := l.runPeer(ctx, newKeepalived(l, advert), o.Rounds, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (l *nvaLab) runPeer(ctx context.Context, c contender, rounds int, r *Result) (err error) {
	if err := c.start(ctx); err != nil {
		return err
	}
	t, err := l.startTraffic(siteFlows(10 * time.Millisecond))
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.waitFlowing(ctx, 300*time.Millisecond, 10*time.Second, append(packetKinds, FlowTCP)...); err != nil {
		return err
	}
	for _, f := range applianceFaults[:2] {
		var sum tally
		for i := range rounds {
			got, victim, err := l.round(ctx, t, c, f, 8*time.Second)
			if err != nil {
				return err
			}
			l.say("%s: %s %d/%d on %s: outage %s, lost %d, %v, tcp stall %s, sessions lost %d", c.name(), f.name, i+1, rounds, victim,
				got.outage.Round(time.Millisecond), got.lost, got.byFlow, got.stall.Round(time.Millisecond), got.sessions)
			sum.add(got)
		}
		r.Figures = append(r.Figures, sum.figures(f.name, c.name())...)
	}
	return c.stop(ctx)
}
