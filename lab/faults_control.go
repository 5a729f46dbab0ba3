package lab

import (
	"context"
	"fmt"
	"time"
)

// controlPlaneDrills are what can happen to Understudy itself.
var controlPlaneDrills = []drill{
	{name: "leader", about: "the leading controller is killed (-9); nothing may move and nothing may be lost", run: runLeader},
	{name: "leader-and-node", about: "the leading controller and the active appliance die together", breaks: "node", run: runLeaderAndNode},
	{name: "leader-mid-failover", about: "the leader kills itself at every step boundary of a failover; another one ends the job", breaks: "node", run: runMidFailover},
	{name: "paused-leader", about: "the leader is stopped between deciding and pushing, and goes on after its successor acted", run: runPausedLeader},
	{name: "partition", about: "the management network falls apart in several ways, one after the other", run: runPartition},
	{name: "both-down", about: "both appliances die; nothing moves until one is healthy", run: runBothDown},
	{name: "control-plane-gone", about: "all controllers and the store are killed for a while", run: runControlPlaneGone},
	{name: "rolling", about: "agents and controllers are restarted one by one", run: runRolling},
	{name: upgradeDrill, about: "controllers and agents of another release (--from) are replaced by this one's, one by one", run: runUpgrade},
}

// quiet adds up things done to Understudy that the traffic must not notice.
type quiet struct {
	tally
	moves int64
}

// undisturbed does something to Understudy under traffic and expects that the traffic never notices.
func (n *nvaRun) undisturbed(ctx context.Context, sum *quiet, what string, disturb func() error) error {
	before, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	got, err := n.measure(ctx, n.t, 5*time.Second, disturb)
	if err != nil {
		return err
	}
	if err := n.c.steady(ctx); err != nil {
		return err
	}
	after, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	sum.add(got)
	sum.moves += after.generation - before.generation
	n.r.check(what+" loses nothing", got.lost == 0 && got.sessions == 0, "%s", got)
	n.r.check(what+" moves nothing", after == before, "active %s, generation %d before and %d after", after.active, before.generation, after.generation)
	n.say("  %s: %s, generation %d → %d", what, got, before.generation, after.generation)
	return nil
}

func (n *nvaRun) reportQuiet(fault string, sum *quiet) {
	n.r.Figures = append(n.r.Figures, sum.figures(fault, "")...)
	n.r.figure(Figure{Name: "false_failovers", Value: float64(sum.moves), Unit: "count", Fault: fault})
}

func runLeader(ctx context.Context, n *nvaRun) error {
	leader, err := n.c.leader(ctx)
	if err != nil {
		return err
	}
	var sum quiet
	var took time.Duration
	err = n.undisturbed(ctx, &sum, "the leader's death", func() error {
		begun := time.Now()
		n.c.servers[leader].kill()
		if _, err := n.c.waitLeader(ctx, leader, 30*time.Second); err != nil {
			return err
		}
		took = time.Since(begun)
		return n.c.startController(leader)
	})
	if err != nil {
		return err
	}
	n.reportQuiet("leader", &sum)
	n.r.figure(Figure{Name: "next_leader", Value: milliseconds(took), Unit: "ms", Fault: "leader"})
	return nil
}

func runLeaderAndNode(ctx context.Context, n *nvaRun) error {
	var sum tally
	rounds := n.o.rounds(3)
	node := applianceFaults[0]
	for i := range rounds {
		leader, err := n.c.leader(ctx)
		if err != nil {
			return err
		}
		both := node
		both.inject = func(ctx context.Context, l *nvaLab, active string) error {
			n.c.servers[leader].kill()
			return node.inject(ctx, l, active)
		}
		both.heal = func(ctx context.Context, l *nvaLab, name string) error {
			if err := n.c.startController(leader); err != nil {
				return err
			}
			return node.heal(ctx, l, name)
		}
		got, victim, err := n.round(ctx, n.t, n.c, both, 40*time.Second)
		if err != nil {
			return err
		}
		sum.add(got)
		n.say("  %d/%d %s and %s: %s", i+1, rounds, leader, victim, got)
	}
	n.r.Figures = append(n.r.Figures, sum.figures("leader-and-node", "")...)
	n.r.check("leader and active appliance die together", sum.dark == 0, "median outage %.0f ms: a new leader comes first",
		milliseconds(median(sum.outages)))
	return nil
}

func runBothDown(ctx context.Context, n *nvaRun) error {
	before, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	standby := otherAppliance(before.active)
	if err := n.crash(standby); err != nil {
		return err
	}
	if err := n.c.waitGroup(ctx, "the standby is down", 20*time.Second, func(g view) bool { return g.health[standby] == "Down" }); err != nil {
		return err
	}
	begun := time.Now()
	if err := n.crash(before.active); err != nil {
		return err
	}
	if err := n.c.waitGroup(ctx, "both are down", 20*time.Second, func(g view) bool { return g.health[before.active] == "Down" }); err != nil {
		return err
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	g, err := n.c.view(ctx)
	if err != nil {
		return err
	}
	n.r.check("both down: stay", g.place == before, "active %s, generation %d", g.active, g.generation)
	n.r.check("both down: alarm", len(g.critical) > 0, "conditions %v", g.critical)
	if err := n.reboot(ctx, standby); err != nil {
		return err
	}
	if err := n.c.startOn(ctx, standby); err != nil {
		return err
	}
	err = n.c.waitGroup(ctx, "the healthy one is active", 30*time.Second, func(g view) bool { return g.active == standby })
	if err == nil {
		err = n.t.waitFlowing(ctx, 300*time.Millisecond, 10*time.Second, packetKinds...)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	n.r.check("both down: the first to come back carries on", err == nil, "%s is active, traffic flows %.1f s after both were down (%v)",
		standby, time.Since(begun).Seconds(), err)
	if err := n.reboot(ctx, before.active); err != nil {
		return err
	}
	if err := n.c.startOn(ctx, before.active); err != nil {
		return err
	}
	if err := n.c.steady(ctx); err != nil {
		return err
	}
	return n.t.reconnect()
}

func runControlPlaneGone(ctx context.Context, n *nvaRun) error {
	var sum quiet
	defer n.reportQuiet("control-plane-gone", &sum)
	return n.undisturbed(ctx, &sum, fmt.Sprintf("no control plane for %s", n.o.Gone), func() error {
		n.c.killControllers()
		if err := sleep(ctx, n.o.Gone); err != nil {
			return err
		}
		if err := n.c.startControllers(ctx); err != nil {
			return err
		}
		return sleep(ctx, 3*time.Second)
	})
}

// runRolling restarts what an upgrade restarts: the program is the same, the way it happens is not.
func runRolling(ctx context.Context, n *nvaRun) error {
	var sum quiet
	defer n.reportQuiet("rolling", &sum)
	if err := n.undisturbed(ctx, &sum, "agents restarted one by one", func() error { return n.c.replaceAgents(ctx) }); err != nil {
		return err
	}
	return n.undisturbed(ctx, &sum, "controllers restarted one by one", func() error { return n.c.replaceControllers(ctx) })
}

// replaceAgents stops each agent in order and starts it again; the next one waits until it is connected.
func (c *cluster) replaceAgents(ctx context.Context) error {
	for _, machine := range agentMachines {
		c.agents[machine].stop(5 * time.Second)
		if err := c.startOn(ctx, machine); err != nil {
			return err
		}
		if err := c.waitConnected(ctx, machine, 15*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// replaceControllers stops each controller in order and starts it again; the next one waits until it serves.
func (c *cluster) replaceControllers(ctx context.Context) error {
	for _, name := range controllers {
		c.servers[name].stop(5 * time.Second)
		if err := c.startController(name); err != nil {
			return err
		}
		if err := c.waitServing(ctx, name, 20*time.Second); err != nil {
			return err
		}
	}
	return nil
}
