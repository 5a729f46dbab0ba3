package azure

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
)

// change is what a step wants of one resource: pure, and idempotent.
type change struct {
	target resourceID
	// scope tells what is moved from what others own of the same resource.
	scope string
	// apply makes the document as wanted and tells how many things it changed. A document that cannot be made so is
	// a cloud.ErrPermanent.
	apply func(document) (int, error)
}

// changeOf says what a step wants.
func changeOf(s api.Step) (change, error) {
	switch {
	case s.Kind == api.StepRoutes && s.Routes != nil:
		id, err := parseIDOf(s.Routes.Table, kindTable)
		return change{id, scopeOf(s), func(d document) (int, error) { return applyRoutes(d, s.Routes.Routes) }}, err
	case s.Kind == api.StepDetach && s.NIC != nil:
		id, err := parseIDOf(s.NIC.NIC, kindNIC)
		return change{id, scopeOf(s), func(d document) (int, error) { return applyDetach(d, s.NIC.Addresses), nil }}, err
	case s.Kind == api.StepAttach && s.NIC != nil:
		id, err := parseIDOf(s.NIC.NIC, kindNIC)
		return change{id, scopeOf(s), func(d document) (int, error) { return applyAttach(d, s.NIC.Addresses) }}, err
	}
	return change{}, fmt.Errorf("step kind %q: not one that Azure carries out; routes, detach and attach with their payload are", s.Kind)
}

func scopeOf(s api.Step) string {
	var things []string
	if s.Routes != nil {
		for _, r := range s.Routes.Routes {
			things = append(things, fold(r.Name))
		}
	}
	if s.NIC != nil {
		for _, a := range s.NIC.Addresses {
			things = append(things, fold(a.ID))
		}
	}
	slices.Sort(things)
	h := fnv.New32a()
	h.Write([]byte(strings.Join(things, "\n")))
	return fmt.Sprintf("%08x", h.Sum32())
}

func applyRoutes(d document, routes []api.CloudRoute) (int, error) {
	if d.properties() == nil {
		return 0, fmt.Errorf("%w: the route table has no properties", cloud.ErrPermanent)
	}
	changed := 0
	for _, want := range routes {
		r := d.route(want.Name, want.Prefix)
		if r == nil {
			all, _ := d.properties()["routes"].([]any)
			r = map[string]any{"name": want.Name, "properties": map[string]any{"addressPrefix": want.Prefix}}
			d.properties()["routes"] = append(all, r)
		}
		p := object(r, "properties")
		if has := text(p, "addressPrefix"); has != want.Prefix {
			return 0, fmt.Errorf("%w: route %s has the prefix %s; want %s, or another name", cloud.ErrPermanent, want.Name, has, want.Prefix)
		}
		if strings.EqualFold(text(p, "nextHopType"), "VirtualAppliance") && text(p, "nextHopIpAddress") == want.NextHop {
			continue
		}
		p["nextHopType"], p["nextHopIpAddress"] = "VirtualAppliance", want.NextHop
		changed++
	}
	return changed, nil
}

// applyDetach takes the addresses from whatever IP configurations of the NIC have them.
func applyDetach(d document, addresses []api.AddressBinding) int {
	changed := 0
	for _, a := range addresses {
		for _, c := range d.configurations() {
			if strings.EqualFold(addressOf(c), a.ID) {
				clearAddress(c)
				changed++
			}
		}
	}
	return changed
}

// applyAttach gives each address to its IP configuration. An address that is not the step's is never displaced.
func applyAttach(d document, addresses []api.AddressBinding) (int, error) {
	ours := map[string]bool{}
	for _, a := range addresses {
		ours[fold(a.ID)] = true
	}
	want := make([]map[string]any, len(addresses))
	for i, a := range addresses {
		if want[i] = d.configuration(a.IPConfiguration); want[i] == nil {
			return 0, fmt.Errorf("%w: the NIC has no IP configuration %q", cloud.ErrPermanent, a.IPConfiguration)
		}
		if has := addressOf(want[i]); has != "" && !ours[fold(has)] {
			return 0, fmt.Errorf("%w: IP configuration %s has the public address %s, which is not moved; name another ipConfiguration", cloud.ErrPermanent, text(want[i], "name"), has)
		}
		for _, other := range want[:i] {
			if text(other, "name") == text(want[i], "name") {
				return 0, fmt.Errorf("%w: two public addresses want IP configuration %s; name another ipConfiguration", cloud.ErrPermanent, text(want[i], "name"))
			}
		}
	}
	changed := 0
	for i, a := range addresses {
		if !strings.EqualFold(addressOf(want[i]), a.ID) {
			changed++
		}
	}
	if changed == 0 {
		return 0, nil
	}
	for i, a := range addresses {
		if !strings.EqualFold(addressOf(want[i]), a.ID) {
			applyDetach(d, []api.AddressBinding{a})
		}
	}
	for i, a := range addresses {
		if !strings.EqualFold(addressOf(want[i]), a.ID) {
			setAddress(want[i], a.ID)
		}
	}
	return changed, nil
}
