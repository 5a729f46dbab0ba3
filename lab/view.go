package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/api"
)

// view is what the controllers say of the pair.
type view struct {
	place
	health   map[string]api.Health
	critical []string // codes of critical conditions
}

func (c *cluster) view(ctx context.Context) (view, error) {
	g, err := c.group(ctx)
	if err != nil {
		return view{}, err
	}
	v := view{health: map[string]api.Health{}}
	if a := g.Status.Assignment; a != nil {
		v.place = place{a.Active, a.Generation}
	}
	for _, m := range g.Status.Members {
		v.health[m.Name] = m.Health
	}
	for _, cond := range g.Status.Conditions {
		if cond.Severity == api.Critical {
			v.critical = append(v.critical, cond.Code)
		}
	}
	return v, nil
}

// waitGroup waits until the controllers say so of the pair.
func (c *cluster) waitGroup(ctx context.Context, what string, limit time.Duration, ok func(view) bool) error {
	var last view
	var err error
	if waitFor(ctx, limit, func() bool {
		last, err = c.view(ctx)
		return err == nil && ok(last)
	}) {
		return nil
	}
	return fmt.Errorf("not after %s: %s; it is %+v (%w)", limit, what, last, err)
}

// waitLeader waits until somebody other than not leads ("" accepts anybody), and names him.
func (c *cluster) waitLeader(ctx context.Context, not string, limit time.Duration) (string, error) {
	var leader string
	var err error
	if waitFor(ctx, limit, func() bool {
		leader, err = c.leader(ctx, not)
		return err == nil && leader != "" && leader != not
	}) {
		return leader, nil
	}
	return "", fmt.Errorf("no leader other than %q after %s (%w)", not, limit, err)
}

// leader names the leading controller, "" if there is none. It asks another controller than not.
func (c *cluster) leader(ctx context.Context, not ...string) (string, error) {
	call := deskCall{Method: "GET", Path: "/v1/status"}
	if len(not) > 0 && not[0] != "" {
		call.Server = "https://" + addressOf(without(controllers, not[0])[0], netManagement) + ":8443"
	}
	var s api.ClusterStatus
	err := c.desk.call(call, &s)
	return s.Leader, err
}

// waitConnected waits until a node's agent has a stream to the leader.
func (c *cluster) waitConnected(ctx context.Context, node string, limit time.Duration) error {
	var n api.Node
	var err error
	started := time.Now().Add(-time.Second)
	if waitFor(ctx, limit, func() bool {
		err = c.desk.get("/v1/nodes/"+node, &n)
		return err == nil && n.Status.Connected && n.Status.Since.After(started)
	}) {
		return nil
	}
	return fmt.Errorf("agent of %s is not connected after %s (%w)", node, limit, err)
}

// waitServing waits until the controller itself answers, from its store, and knows a leader.
func (c *cluster) waitServing(ctx context.Context, name string, limit time.Duration) error {
	var s api.ClusterStatus
	var err error
	call := deskCall{Method: "GET", Path: "/v1/status", Server: "https://" + addressOf(name, netManagement) + ":8443"}
	if waitFor(ctx, limit, func() bool {
		s = api.ClusterStatus{}
		err = c.desk.call(call, &s)
		return err == nil && s.Leader != ""
	}) {
		return nil
	}
	return fmt.Errorf("controller %s does not serve after %s: %+v (%w)", name, limit, s, err)
}

// requestMove asks for a planned move.
func (c *cluster) requestMove(to string) error {
	body, err := json.Marshal(map[string]string{"to": to})
	if err != nil {
		return err
	}
	return c.desk.call(deskCall{Method: "POST", Path: "/v1/appliancegroups/" + groupName + "/failover", Body: body}, nil)
}

// resume lets a stopped controller go on.
func (c *cluster) resume(name string) error { return c.servers[name].signal(unix.SIGCONT) }
