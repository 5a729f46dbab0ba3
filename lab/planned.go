package lab

import (
	"context"
	"fmt"
	"time"
)

// runPlanned moves the pair to and fro under probes every millisecond. Nothing may be lost.
func runPlanned(ctx context.Context, n *nvaRun) error {
	if err := n.startFlows(ctx, time.Millisecond); err != nil {
		return err
	}
	moves := n.o.rounds(100)
	before, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	n.waitSessions(ctx, n.t.flows, 3*time.Second)
	active := before.active
	got, err := n.measure(ctx, n.t, 10*time.Second, func() error {
		for i := range moves {
			active = otherAppliance(active)
			if err := n.c.failover(ctx, active); err != nil {
				return fmt.Errorf("move %d to %s: %w", i+1, active, err)
			}
			if (i+1)%20 == 0 {
				n.say("  %d of %d moves", i+1, moves)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	n.say("  %d moves: %s", moves, got)
	var sum tally
	sum.add(got)
	n.r.Figures = append(n.r.Figures, sum.figures("planned", "")...)
	done := int(after.generation - before.generation)
	n.r.figure(Figure{Name: "moves", Value: float64(done), Unit: "count", Fault: "planned"})
	n.r.check("planned moves happen", done == moves && after.active == active, "%d of %d", done, moves)
	if n.o.Effects == "fabric" {
		n.r.check("planned moves lose nothing", got.lost == 0, "%d packets lost in %d moves, probes both ways every millisecond", got.lost, moves)
	}
	n.r.check("planned TCP sessions", true, "%s", sessionWords(got.sessions, 1, n.t.flows))
	return n.startFlows(ctx, 10*time.Millisecond)
}

// failover asks for a planned move and waits until its job has ended.
func (c *cluster) failover(ctx context.Context, to string) error {
	if err := c.requestMove(to); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		p, err := c.place(ctx)
		if err == nil && p.active == to {
			if err = c.checkSteady(ctx); err == nil {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not there after 30s (%w)", err)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
