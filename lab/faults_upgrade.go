package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

const upgradeDrill = "upgrade"

// settleUpgrade refuses an upgrade that would show nothing. Without a program to start from, "all" does not mean it.
func settleUpgrade(ctx context.Context, o Options, chosen []drill) ([]drill, error) {
	isUpgrade := func(d drill) bool { return d.name == upgradeDrill }
	switch {
	case o.From == "" && slices.Contains(o.Faults, upgradeDrill):
		return nil, refuse("from", "", "another release's program to upgrade from; scripts/previous.sh builds one")
	case o.From == "":
		return slices.DeleteFunc(chosen, isUpgrade), nil
	case !slices.ContainsFunc(chosen, isUpgrade):
		return nil, refuse("from", o.From, "none without the fault "+upgradeDrill)
	}
	was, is, err := releases(ctx, o)
	if err != nil {
		return nil, refuse("from", o.From, "a program of another release that runs here: "+err.Error())
	}
	if was == is {
		return nil, refuse("from", o.From, "another version than this program's, which is "+is+" too")
	}
	return chosen, nil
}

// releases gives the version that an upgrade starts from and the one that it goes to.
func releases(ctx context.Context, o Options) (was, is string, err error) {
	to := o.Binary
	if to == "" {
		if to, err = os.Executable(); err != nil {
			return "", "", err
		}
	}
	was, err = versionOf(ctx, o.From)
	if err != nil {
		return "", "", err
	}
	is, err = versionOf(ctx, to)
	return was, is, err
}

// versionOf asks a program for its version.
func versionOf(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "version", "--json").Output()
	if err != nil {
		return "", fmt.Errorf("run %s version: %w", path, err)
	}
	var v struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(out, &v); err != nil || v.Version == "" {
		return "", fmt.Errorf("%s version --json names no version but %.80q", path, out)
	}
	return v.Version, nil
}

// runUpgrade starts a new cluster of another release and replaces its controllers, then its agents, one by one by this
// program. Nothing may notice; and the pair must move when half of the site is new, and when all of it is.
func runUpgrade(ctx context.Context, n *nvaRun) error {
	was, is, err := releases(ctx, n.o)
	if err != nil {
		return err
	}
	if err := n.renewCluster(ctx, n.o.From); err != nil {
		return fmt.Errorf("start version %s: %w", was, err)
	}
	n.checkVersions(ctx, "before the upgrade", was, was)
	n.c.binary = n.binary
	var sum quiet
	defer n.reportQuiet(upgradeDrill, &sum)
	for _, part := range []struct {
		what, agents string // who is replaced; what the agents run then
		replace      func(context.Context) error
	}{
		{"controllers", was, n.c.replaceControllers},
		{"agents", is, n.c.replaceAgents},
	} {
		what := fmt.Sprintf("%s upgraded one by one from %s to %s", part.what, was, is)
		if err := n.undisturbed(ctx, &sum, what, func() error { return part.replace(ctx) }); err != nil {
			return err
		}
		n.checkVersions(ctx, part.what+" upgraded", is, part.agents)
		if err := n.moveOnce(ctx, part.what+" upgraded"); err != nil {
			return err
		}
	}
	return nil
}

// renewCluster replaces the cluster by a new one that runs this program, and the traffic with it.
func (n *nvaRun) renewCluster(ctx context.Context, program string) error {
	if err := errors.Join(n.c.stop(ctx), os.RemoveAll(n.run.scratch())); err != nil {
		return err
	}
	n.c = newCluster(n.nvaLab, n.o)
	n.c.binary = program
	if err := n.c.start(ctx); err != nil {
		return err
	}
	return n.startFlows(ctx, 10*time.Millisecond)
}

// moveOnce asks for one planned move.
func (n *nvaRun) moveOnce(ctx context.Context, what string) error {
	before, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	n.waitSessions(ctx, n.t.flows, 5*time.Second)
	target := otherAppliance(before.active)
	got, err := n.measure(ctx, n.t, 10*time.Second, func() error { return n.c.failover(ctx, target) })
	if err != nil {
		return err
	}
	after, err := n.c.place(ctx)
	if err != nil {
		return err
	}
	// With lease effects the address is nobody's for a moment.
	n.r.check(what+": a planned move", got.restored && (got.lost == 0 || n.c.effects == api.EffectsLease) &&
		after == place{target, before.generation + 1}, "to %s, generation %d → %d, %s", target, before.generation, after.generation, got)
	return nil
}

// checkVersions checks what every controller and agent says of itself.
func (n *nvaRun) checkVersions(ctx context.Context, what, controllersWant, agentsWant string) {
	var wrong []string
	ok := waitFor(ctx, 10*time.Second, func() bool {
		wrong = nil
		for _, name := range controllers {
			var s api.ClusterStatus
			call := deskCall{Method: "GET", Path: "/v1/status", Server: "https://" + addressOf(name, netManagement) + ":8443"}
			if err := n.c.desk.call(call, &s); err != nil || s.Version != controllersWant {
				wrong = append(wrong, differs(name, s.Version, controllersWant, err))
			}
		}
		for _, name := range agentMachines {
			var node api.Node
			if err := n.c.desk.get("/v1/nodes/"+name, &node); err != nil || !node.Status.Connected || node.Status.Version != agentsWant {
				wrong = append(wrong, differs(name, node.Status.Version, agentsWant, err))
			}
		}
		return len(wrong) == 0
	})
	n.r.check(what+": versions", ok, "%d controllers %s, %d agents %s; different: [%s]",
		len(controllers), controllersWant, len(agentMachines), agentsWant, strings.Join(wrong, "; "))
}

func differs(name, got, want string, err error) string {
	if err != nil {
		return fmt.Sprintf("%s: %v", name, err)
	}
	return fmt.Sprintf("%s: version %s, want %s", name, cmp.Or(got, "unknown"), want)
}
