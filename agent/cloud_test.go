package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/clock"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/cloudtest"
	"github.com/understudy-ha/understudy/cloud/linux"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/steward"
	"github.com/understudy-ha/understudy/wire"
)

// slow grants outlast every test.
var slow = lead.Timing{TTL: time.Hour, Margin: 10 * time.Minute}

// host is an agent without its process: steward and engines on a namespace of its own.
type host struct {
	mu      sync.Mutex
	space   *space
	engines *hostEngines
	core    *steward.Core
	tick    uint64
	pushes  uint64
	codes   map[uint64]string
	details map[uint64]string
}

func newHost(t *testing.T) *host {
	h := &host{space: newSpace(t), codes: map[uint64]string{}, details: map[uint64]string{}}
	e, err := newEngines(h.space.net)
	must(t, err)
	t.Cleanup(func() { must(t, e.close()) })
	h.engines = e
	born := clock.System().Add(-slow.Wait()) // so long ago that it has no promises to keep
	core, effects := steward.New(steward.Config{Timing: slow, Life: "l", Boot: "b"}, born, nil, steward.Grants{})
	h.core = core
	h.perform(effects)
	h.step(steward.Welcomed{Session: 1, Cluster: "cloudtest", Proven: true})
	return h
}

func (h *host) step(ev steward.Event) {
	effects, _ := h.core.Step(clock.System(), ev)
	h.perform(effects)
}

func (h *host) perform(effects []steward.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case steward.SendTick:
			h.tick = e.Seq
		case steward.Store:
			h.step(steward.Stored{N: e.N})
		case steward.Apply:
			h.step(steward.Applied{N: e.N, Engine: e.Section.Engine, Owner: e.Section.Owner, Err: h.engines.apply(e, e.Valid)})
		case steward.Drop:
			h.step(steward.Dropped{Owner: e.Owner, Err: h.engines.addresses.Set(e.Owner, nil, 0)})
		case steward.SendApplied:
			h.codes[e.Push], h.details[e.Push] = e.Code, e.Detail
		}
	}
}

// do carries out a step as the controller would have the agent do it.
func (h *host) do(token api.Token, s api.Step) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushes++
	h.step(steward.Pushed{Session: 1, ID: h.pushes, Token: token, Life: "l", Tick: h.tick, Sections: s.Node.Sections})
	switch code := h.codes[h.pushes]; code {
	case wire.CodeOK:
		return "applied", nil
	case wire.CodeOldEpoch, wire.CodeOldGeneration, wire.CodeOldCluster:
		return "", fmt.Errorf("%w: %s", cloud.ErrStale, h.details[h.pushes])
	default:
		return "", errors.Join(cloud.ErrPermanent, fmt.Errorf("%s: %s", code, h.details[h.pushes]))
	}
}

// site is the hosts of one harness. As a cloud.Driver it looks at their kernels.
type site struct {
	hosts map[string]*host
	group *api.ApplianceGroup
}

func (s *site) do(_ context.Context, token api.Token, step api.Step) (string, error) {
	return s.hosts[step.Node.Node].do(token, step)
}

func (s *site) Do(context.Context, api.Token, api.Step) (string, error) {
	return "", errors.New("agents carry out every step")
}

func (s *site) Check(context.Context, *api.ApplianceGroup) ([]cloud.Finding, error) { return nil, nil }

// Observe reads the kernels.
func (s *site) Observe(_ context.Context, g *api.ApplianceGroup) (cloud.State, error) {
	var out cloud.State
	scope := g.Metadata.Tenant + "/" + g.Spec.Provider
	for _, a := range g.Spec.PublicAddresses {
		h := cloud.Holding{Thing: cloud.AddressClaim(scope, a)}
		if a.ID != "" {
			h.Member = s.nextHop(a.ID, a.Address+"/32 table main")
		} else {
			h.Member = s.holder(a.Address)
		}
		out.Holdings = append(out.Holdings, h)
	}
	for _, t := range g.Spec.RouteTables {
		node, table, named := strings.Cut(t.ID, "/")
		if !named {
			table = "main"
		}
		for _, r := range t.Routes {
			out.Holdings = append(out.Holdings, cloud.Holding{Thing: cloud.RouteClaim(scope, t, r), Member: s.nextHop(node, r.Prefix+" table "+table)})
		}
	}
	return out, nil
}

func (s *site) nextHop(node, route string) string {
	for l := range strings.Lines(s.hosts[node].space.lines()) {
		for _, m := range s.group.Spec.Members {
			if strings.HasPrefix(l, "route "+route+" via "+m.NICs[0].Address+" ") {
				return m.Name
			}
		}
	}
	return ""
}

func (s *site) holder(address string) string {
	var on []string
	for _, m := range s.group.Spec.Members {
		if strings.Contains(s.hosts[m.Node].space.lines(), "addr "+address+" ") {
			on = append(on, m.Name)
		}
	}
	return strings.Join(on, " and ")
}

// newHarness is a router and two appliances, with a group that is on a.
func newHarness(t *testing.T, effects api.Effects) *cloudtest.Harness {
	s := &site{hosts: map[string]*host{}}
	for _, name := range []string{"edge", "nva-a", "nva-b"} {
		s.hosts[name] = newHost(t)
	}
	edge := s.hosts["edge"].space.net
	must(t, edge.AddAddress("eth0", netip.MustParsePrefix("172.16.0.1/24")))
	_, err := edge.Run("ip", "route", "add", "10.200.0.0/16", "via", "10.0.0.77")
	must(t, err)
	s.group = &api.ApplianceGroup{Header: api.Header{Kind: api.KindApplianceGroup, Metadata: api.Metadata{Name: "dmz", Tenant: "default"}}, Spec: api.GroupSpec{Provider: "site",
		Members: []api.Member{
			{Name: "a", Node: "nva-a", NICs: []api.NIC{{Name: "out", ID: "eth0", Address: "10.0.0.4"}}},
			{Name: "b", Node: "nva-b", NICs: []api.NIC{{Name: "out", ID: "eth0", Address: "10.0.0.5"}}},
		},
		RouteTables: []api.RouteTable{{ID: "edge", Routes: []api.Route{{Prefix: "10.99.0.0/16", NIC: "out"}}}, {ID: "edge/100", Routes: []api.Route{{Prefix: "0.0.0.0/0", NIC: "out"}}}}}}
	s.group.Spec.PublicAddresses = []api.PublicAddress{{Name: "pip", ID: "edge", Address: "203.0.113.10", NIC: "out"}}
	if effects == api.EffectsLease {
		s.group.Spec.PublicAddresses = []api.PublicAddress{{Name: "vip", Address: "10.0.0.50/24", NIC: "out"}}
	}
	h := &cloudtest.Harness{Planner: linux.Planner{Timing: slow}, Driver: s, Do: s.do, Group: s.group, Holder: "a", Other: "b",
		Provider:   &api.Provider{Spec: api.ProviderSpec{Type: api.ProviderLinux, Linux: &api.LinuxProvider{Effects: effects}}},
		Bystanders: func() string { return bystanders(t, edge.Dump) },
	}
	steps, err := h.Planner.Plan(cloud.Move{Group: h.Group, Provider: h.Provider, To: "a"})
	must(t, err)
	for _, step := range steps {
		_, err := s.do(t.Context(), api.Token{ClusterID: "cloudtest", Epoch: 1}, step)
		must(t, err)
	}
	return h
}

// bystanders is what Understudy did not make.
func bystanders(t *testing.T, dump func() (string, error)) string {
	text, err := dump()
	must(t, err)
	var out []string
	for l := range strings.Lines(text) {
		if !strings.Contains(l, " ours") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "")
}

func TestFabricIsACloud(t *testing.T) {
	cloudtest.Run(t, func(t *testing.T) *cloudtest.Harness { return newHarness(t, api.EffectsFabric) })
}

func TestLeaseIsACloud(t *testing.T) {
	cloudtest.Run(t, func(t *testing.T) *cloudtest.Harness { return newHarness(t, api.EffectsLease) })
}
