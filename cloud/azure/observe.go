package azure

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// Observe reads each public address and each table once. What does not exist is a holding of nobody; any other error ends it.
func (d *Driver) Observe(ctx context.Context, group *api.ApplianceGroup) (cloud.State, error) {
	var ids []string
	for _, a := range group.Spec.PublicAddresses {
		ids = append(ids, a.ID)
	}
	for _, t := range group.Spec.RouteTables {
		ids = append(ids, t.ID)
	}
	found := d.readAll(ctx, ids)
	scope := group.Metadata.Tenant + "/" + group.Spec.Provider
	var s cloud.State
	for _, a := range group.Spec.PublicAddresses {
		h, err := holdingOfAddress(group, a, found[fold(a.ID)])
		if err != nil {
			return cloud.State{}, fmt.Errorf("observe group %s: %w", group.Metadata.Name, err)
		}
		h.Thing = cloud.AddressClaim(scope, a)
		s.Holdings = append(s.Holdings, h)
	}
	for _, t := range group.Spec.RouteTables {
		for _, r := range t.Routes {
			h, err := holdingOfRoute(group, r, found[fold(t.ID)])
			if err != nil {
				return cloud.State{}, fmt.Errorf("observe group %s: %w", group.Metadata.Name, err)
			}
			h.Thing = cloud.RouteClaim(scope, t, r)
			s.Holdings = append(s.Holdings, h)
		}
	}
	return s, nil
}

func holdingOfAddress(group *api.ApplianceGroup, a api.PublicAddress, r reading) (cloud.Holding, error) {
	switch {
	case notFound(r.err):
		return cloud.Holding{Detail: "the public address does not exist"}, nil
	case r.err != nil:
		return cloud.Holding{}, r.err
	}
	at := text(object(r.doc.properties(), "ipConfiguration"), "id")
	if at == "" {
		return cloud.Holding{Detail: "on no NIC"}, nil
	}
	nic, name := nicOf(at)
	for _, m := range group.Spec.Members {
		n, ok := nicNamed(m, a.NIC)
		if !ok || !strings.EqualFold(n.ID, nic) {
			continue
		}
		if a.IPConfiguration != "" && !strings.EqualFold(a.IPConfiguration, name) {
			return cloud.Holding{Detail: fmt.Sprintf("on member %s, but on IP configuration %s", m.Name, name)}, nil
		}
		return cloud.Holding{Member: m.Name, Detail: at}, nil
	}
	return cloud.Holding{Detail: "on " + at}, nil
}

func holdingOfRoute(group *api.ApplianceGroup, want api.Route, r reading) (cloud.Holding, error) {
	switch {
	case notFound(r.err):
		return cloud.Holding{Detail: "the route table does not exist"}, nil
	case r.err != nil:
		return cloud.Holding{}, r.err
	}
	p := object(r.doc.route(routeName(want), want.Prefix), "properties")
	if p == nil {
		return cloud.Holding{Detail: "no such route in the table"}, nil
	}
	hop := text(p, "nextHopIpAddress")
	if !strings.EqualFold(text(p, "nextHopType"), "VirtualAppliance") {
		return cloud.Holding{Detail: "next hop type " + text(p, "nextHopType")}, nil
	}
	if has := text(p, "addressPrefix"); has != want.Prefix {
		return cloud.Holding{Detail: "the route of this name has prefix " + has}, nil
	}
	for _, m := range group.Spec.Members {
		if n, ok := nicNamed(m, want.NIC); ok && n.Address == hop {
			return cloud.Holding{Member: m.Name, Detail: "next hop " + hop}, nil
		}
	}
	return cloud.Holding{Detail: "next hop " + hop}, nil
}

// reading is a resource, or why there is none.
type reading struct {
	doc document
	err error
}

// readAll reads resources side by side, each once. The result is by folded id.
func (d *Driver) readAll(ctx context.Context, ids []string) map[string]reading {
	out := map[string]reading{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[fold(id)] {
			continue
		}
		seen[fold(id)] = true
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r := d.read(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			out[fold(id)] = r
		})
	}
	wg.Wait()
	return out
}

// read reads a resource and waits out what passes by itself.
func (d *Driver) read(ctx context.Context, id string) reading {
	rid, err := parseID(id)
	if err != nil {
		return reading{err: fmt.Errorf("%w: %w", cloud.ErrPermanent, err)}
	}
	w := &waiter{poll: d.poll}
	for {
		doc, err := d.client.get(ctx, rid)
		if err == nil {
			return reading{doc: doc}
		}
		if err = w.wait(ctx, err); err != nil {
			return reading{err: err}
		}
	}
}
