package lab

import (
	"context"
	"slices"
	"time"
)

// cut is one way the management network falls apart.
type cut struct {
	name  string
	pairs func(leader, active string) [][2]string
}

// managementPairs joins every one of as with every one of bs, as ports of the management switch.
func managementPairs(as, bs []string) (pairs [][2]string) {
	for _, a := range as {
		for _, b := range bs {
			if a != b {
				pairs = append(pairs, [2]string{netManagement + "." + a, netManagement + "." + b})
			}
		}
	}
	return pairs
}

func without(all []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == name })
}

// The cuts none of which may move anything. The operator stays with everybody.
var cuts = []cut{
	{"the leader is cut off from the other controllers", func(leader, _ string) [][2]string {
		return managementPairs([]string{leader}, without(controllers, leader))
	}},
	{"the leader is cut off from everybody", func(leader, _ string) [][2]string {
		return managementPairs([]string{leader}, append(without(controllers, leader), agentMachines...))
	}},
	{"one follower sees neither routers nor appliances", func(leader, _ string) [][2]string {
		return managementPairs(without(controllers, leader)[:1], agentMachines)
	}},
	{"the active appliance's agent is cut off from all controllers", func(_, active string) [][2]string {
		return managementPairs([]string{active}, controllers)
	}},
	{"all controllers are cut off from routers and appliances", func(_, _ string) [][2]string {
		return managementPairs(controllers, agentMachines)
	}},
}

func runPartition(ctx context.Context, n *nvaRun) error {
	const long = 6 * time.Second // more than a lease of 3 s and its margins
	var sum quiet
	for _, cut := range cuts {
		leader, err := n.c.leader(ctx)
		if err != nil {
			return err
		}
		active, err := n.c.active(ctx)
		if err != nil {
			return err
		}
		pairs := cut.pairs(leader, active)
		err = n.undisturbed(ctx, &sum, cut.name, func() error {
			if err := n.topo.cutPairs(ctx, pairs...); err != nil {
				return err
			}
			if err := sleep(ctx, long); err != nil {
				return err
			}
			if err := n.topo.joinPairs(ctx, pairs...); err != nil {
				return err
			}
			return sleep(ctx, 2*time.Second)
		})
		if err != nil {
			return err
		}
	}
	n.reportQuiet("partition", &sum)
	return nil
}
