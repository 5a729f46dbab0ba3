package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// jobsOf lists the pair's jobs of one generation of its assignment.
func (c *cluster) jobsOf(generation int64) (jobs []api.Job, err error) {
	var list struct {
		Items []api.Job `json:"items"`
	}
	if err := c.desk.get("/v1/jobs", &list); err != nil {
		return nil, err
	}
	for _, j := range list.Items {
		if j.Spec.Generation == generation {
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

// failpointEnv names, to a controller, the file that arms a failpoint.
const failpointEnv = "UNDERSTUDY_FAILPOINT_FILE"

// boundaries of a step at which a leader may die.
var boundaries = []string{"before-intent", "after-intent", "after-effect", "after-outcome"}

func (c *cluster) failpointFile(controller string) string {
	return filepath.Join(c.dir, "failpoint-"+controller)
}

// arm makes a controller kill or stop itself when a job of its gets to the boundary.
func (c *cluster) arm(controller, boundary, what string) error {
	return writeFile(c.failpointFile(controller), boundary+" "+what)
}

// runMidFailover kills the leader at each boundary of a failover of a dead appliance.
func runMidFailover(ctx context.Context, n *nvaRun) error {
	const attempts = 3
	for _, boundary := range boundaries {
		for attempt := 1; ; attempt++ {
			done, err := n.killAt(ctx, boundary, attempt == attempts)
			if err != nil {
				return err
			}
			if done {
				break
			}
			n.say("  %s: the leader lost its lease before it got there; once more", boundary)
		}
	}
	return nil
}

// killAt fails the active appliance over once, with a leader that dies at the boundary. Unless it is the last attempt, it
// reports nothing if another one had become leader before: on a busy machine leaders change by themselves.
func (n *nvaRun) killAt(ctx context.Context, boundary string, last bool) (done bool, err error) {
	leader, err := n.c.leader(ctx)
	if err != nil {
		return false, err
	}
	before, err := n.c.place(ctx)
	if err != nil {
		return false, err
	}
	died, deposed := false, false
	node := applianceFaults[0]
	f := node
	f.inject = func(ctx context.Context, l *nvaLab, active string) error {
		if err := n.c.arm(leader, boundary, "kill"); err != nil {
			return err
		}
		return node.inject(ctx, l, active)
	}
	f.heal = func(ctx context.Context, l *nvaLab, name string) error {
		died = !n.c.servers[leader].alive()
		if now, err := n.c.leader(ctx, leader); err == nil && !died {
			deposed = now != "" && now != leader
		}
		n.c.servers[leader].kill()
		removeFile(n.c.failpointFile(leader))
		if err := n.c.startController(leader); err != nil {
			return err
		}
		return node.heal(ctx, l, name)
	}
	got, victim, err := n.round(ctx, n.t, n.c, f, 40*time.Second)
	if err != nil {
		return false, err
	}
	if deposed && !last {
		return false, nil
	}
	g, err := n.c.group(ctx)
	if err != nil {
		return false, err
	}
	var jobs []api.Job
	ended := waitFor(ctx, 20*time.Second, func() bool { // a repair may follow: the new leader does not know what the old one had pushed
		if jobs, err = n.c.jobsOf(before.generation + 1); err != nil {
			return false
		}
		return len(jobs) > 0 && !slices.ContainsFunc(jobs, func(j api.Job) bool { return !j.Status.Phase.Ended() })
	})
	if err != nil {
		return false, err
	}
	n.say("  %s: %s died, %s took over from %s: %s", boundary, leader, g.Status.Assignment.Active, victim, got)
	var sum tally
	sum.add(got)
	n.r.Figures = append(n.r.Figures, sum.figures("leader killed "+boundary, "")...)
	var words []string
	for _, j := range jobs {
		words = append(words, fmt.Sprintf("%s %s (epochs %v)", j.Metadata.Name, j.Status.Phase, j.Status.Epochs))
	}
	n.r.check("leader killed "+boundary, died && got.restored && ended && g.Status.Assignment.Active != victim,
		"died %t; %s; active %s", died, strings.Join(words, ", "), g.Status.Assignment.Active)
	n.r.check("leader killed "+boundary+": one move", g.Status.Assignment.Generation == before.generation+1,
		"generation %d before, %d after", before.generation, g.Status.Assignment.Generation)
	return true, n.checkOneHolder(ctx, "leader killed "+boundary, g.Status.Assignment.Active)
}

// checkOneHolder checks that everything that moves stands at the active appliance and nowhere else.
func (n *nvaRun) checkOneHolder(_ context.Context, what, active string) error {
	var wrong []string
	if n.c.effects == api.EffectsLease {
		for _, name := range appliances {
			for link, vip := range map[string]string{netOutside: outsideVIP, netInside: insideVIP} {
				all, err := n.topo.spaces[name].addresses(link)
				if err != nil {
					return err
				}
				if slices.Contains(all, vip+"/24") != (name == active) {
					wrong = append(wrong, fmt.Sprintf("%s on %s: %v", vip, name, all))
				}
			}
		}
	} else {
		for _, r := range movingRoutes {
			via, err := n.topo.spaces[r.machine].nextHop(r.prefix)
			if err != nil {
				return err
			}
			if via != addressOf(active, r.network) {
				wrong = append(wrong, fmt.Sprintf("%s at %s goes to %s", r.prefix, r.machine, via))
			}
		}
	}
	n.r.check(what+": one holder", len(wrong) == 0, "everything is at %s; elsewhere: [%s]", active, strings.Join(wrong, ", "))
	return nil
}

// runPausedLeader stops the leader when it has written its intent and not yet pushed it. Its successor can reach the
// edge router alone. When the old leader goes on, the core router, which never heard of the successor, must refuse it.
func runPausedLeader(ctx context.Context, n *nvaRun) error {
	if n.c.effects == api.EffectsLease {
		n.say("  only with fabric effects, where two routers take part; left out")
		return nil
	}
	old, err := n.c.leader(ctx)
	if err != nil {
		return err
	}
	before, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	target := otherAppliance(before.active)
	if err := n.c.arm(old, "after-intent", "stop"); err != nil {
		return err
	}
	coreBefore, err := n.topo.spaces["core"].nextHop(defaultPrefix)
	if err != nil {
		return err
	}
	// The core router keeps only its way to the old leader.
	pairs := managementPairs([]string{"core"}, without(controllers, old))
	if err := n.topo.cutPairs(ctx, pairs...); err != nil {
		return err
	}
	if err := n.c.requestMove(target); err != nil {
		return err
	}
	next, err := n.c.waitLeader(ctx, old, 30*time.Second)
	if err != nil {
		return err
	}
	edgeActed := waitFor(ctx, 15*time.Second, func() bool {
		via, err := n.topo.spaces["edge"].nextHop(pip + "/32")
		return err == nil && via == addressOf(target, netOutside)
	})
	n.r.check("paused leader: the successor acts where it can", edgeActed, "%s led instead of %s and moved the edge router's routes to %s", next, old, target)
	if err := n.c.resume(old); err != nil {
		return err
	}
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	edge, err := n.topo.spaces["edge"].nextHop(pip + "/32")
	if err != nil {
		return err
	}
	core, err := n.topo.spaces["core"].nextHop(defaultPrefix)
	if err != nil {
		return err
	}
	n.r.check("paused leader: the edge router refuses it", edge == addressOf(target, netOutside), "its route still goes to %s", edge)
	n.r.check("paused leader: the core router refuses it, without knowing of the successor", core == coreBefore,
		"its route goes to %s, before the move to %s", core, coreBefore)
	if err := n.topo.joinPairs(ctx, pairs...); err != nil {
		return err
	}
	if err := n.c.steady(ctx); err != nil {
		return err
	}
	g, err := n.c.group(ctx)
	if err != nil {
		return err
	}
	n.r.check("paused leader: the job ends", g.Status.Assignment.Active == target, "active %s by job %s", g.Status.Assignment.Active, g.Status.Assignment.Job)
	if err := n.checkOneHolder(ctx, "paused leader", target); err != nil {
		return err
	}
	return n.t.waitFlowing(ctx, 300*time.Millisecond, 10*time.Second, packetKinds...)
}

// waitFor polls until ok, at most for limit.
func waitFor(ctx context.Context, limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) || sleep(ctx, 20*time.Millisecond) != nil {
			return false
		}
	}
	return true
}
