package sim

import (
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/store"
)

// flavour of a group: how its things move.
type flavour string

const (
	byFabric flavour = "fabric" // routers' agents switch
	byLease  flavour = "lease"  // members hold addresses under a grant
	byAzure  flavour = "azure"  // a cloud switches
)

// group is one appliance group of the world, as its operators know it.
type group struct {
	flavour flavour
	spec    *api.ApplianceGroup
	ref     api.Ref
	boxes   map[string]*box // by member
}

// populate makes routers, appliances and two or three groups.
func (w *world) populate() {
	for i := range 2 {
		w.addNode(fmt.Sprintf("r%d", i), nil)
	}
	for i := range 3 {
		name := fmt.Sprintf("a%d", i)
		b := &box{w: w, name: name, probe: w.net.add(name + "-probe"), ip: fmt.Sprintf("10.0.1.%d", 10+i), on: true, was: true}
		b.agent = w.addNode(name, b)
		w.boxes = append(w.boxes, b)
	}
	for i := range 2 {
		name := fmt.Sprintf("x%d", i)
		w.boxes = append(w.boxes, &box{w: w, name: name, probe: w.net.add(name + "-probe"), ip: fmt.Sprintf("10.1.1.%d", 10+i), on: true, was: true})
	}
	kinds := []flavour{byFabric, byLease, byAzure}
	w.rng.Shuffle(3, func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for _, k := range kinds[:2+w.rng.IntN(2)] {
		w.addGroup(k)
	}
}

func (w *world) addNode(name string, b *box) *node {
	n := &node{w: w, m: newMachine(w, name), name: "default/" + name, at: w.net.add(name), box: b}
	if b != nil {
		n.m.changed = b.truth
	}
	w.nodes = append(w.nodes, n)
	return n
}

func (w *world) addGroup(k flavour) {
	p := &api.Provider{Header: header(api.KindProvider, string(k))}
	p.Spec.Type = api.ProviderLinux
	p.Spec.Linux = &api.LinuxProvider{Effects: api.Effects(k)}
	if k == byAzure {
		p.Spec = api.ProviderSpec{Type: api.ProviderAzure, Azure: &api.AzureProvider{}}
	}
	w.put(p)
	g := &group{flavour: k, boxes: map[string]*box{}, spec: &api.ApplianceGroup{Header: header(api.KindApplianceGroup, string(k))}}
	g.ref = g.spec.Ref()
	s := &g.spec.Spec
	s.Serves, s.Provider = []api.Audience{api.ServesInternet}, string(k)
	switch k {
	case byAzure:
		w.azureMembers(g)
	default:
		w.linuxMembers(g)
	}
	s.Probe.Port = 80
	if w.chance(0.75) {
		s.Probe.Interval = api.Duration(2+w.rng.IntN(2)) * api.Duration(time.Second) // else the profile's 1s
	}
	hold := api.Duration(w.between(10*time.Second, 40*time.Second))
	s.Failover.Damping = api.Damping{Moves: 3 + w.rng.IntN(3), Window: api.Duration(time.Minute), Hold: &hold}
	back := api.Duration(w.between(15*time.Second, time.Minute))
	s.Failback.Hold = &back
	if w.chance(0.4) {
		s.Failback.Policy = api.Automatic
	}
	if w.chance(0.3) {
		s.Hooks.Before = []api.Hook{{Name: "tell", URL: "http://hooks/before"}}
	}
	if w.chance(0.4) {
		s.Hooks.After = []api.Hook{{Name: "done", URL: "http://hooks/after"}}
	}
	if k != byAzure && w.chance(0.3) {
		s.Drain.Period = api.Duration(2 * time.Second)
	}
	w.put(g.spec)
	w.groups = append(w.groups, g)
}

func header(k api.Kind, name string) api.Header {
	return api.Header{APIVersion: api.Version, Kind: k, Metadata: api.Metadata{Name: name, Tenant: "default", Generation: 1}}
}

// put stores a resource as admission would: defaulted and valid.
func (w *world) put(o api.Object) {
	o.Default()
	if err := o.Validate(); err != nil {
		w.violate(0, "the simulator's own resource is invalid: "+err.Error())
	}
	if _, err := w.store.commit(nil, []store.Op{{Key: api.ObjectKey(o.Head().Ref()), Value: encode(o)}}); err != nil {
		w.violate(0, err.Error())
	}
}

func (w *world) linuxMembers(g *group) {
	s := &g.spec.Spec
	for i := range 2 + w.rng.IntN(2) {
		b := w.boxes[i]
		g.boxes[b.name] = b
		s.Members = append(s.Members, api.Member{Name: b.name, Node: b.name, Probe: b.ip, NICs: []api.NIC{
			{Name: "outside", ID: "eth0", Address: b.ip}, {Name: "inside", ID: "eth1", Address: fmt.Sprintf("10.0.2.%d", 10+i)}}})
	}
	if g.flavour == byLease {
		s.PublicAddresses = []api.PublicAddress{{Name: "vip", Address: "198.51.100.10/24", NIC: "outside"}, {Name: "gw", Address: "10.0.2.1/24", NIC: "inside"}}
		return
	}
	s.PublicAddresses = []api.PublicAddress{{Name: "web", ID: "r0", Address: "203.0.113.10", NIC: "outside"}}
	s.RouteTables = []api.RouteTable{{ID: "r0", Routes: []api.Route{{Prefix: "10.9.0.0/16", NIC: "inside"}}}, {ID: "r1", Routes: []api.Route{{Prefix: "0.0.0.0/0", NIC: "inside"}}}}
}

const arm = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/"

func (w *world) azureMembers(g *group) {
	s := &g.spec.Spec
	for i, b := range w.boxes[3:] {
		g.boxes[b.name] = b
		id := arm + "networkInterfaces/" + b.name
		w.cloud.add(id, true)
		s.Members = append(s.Members, api.Member{Name: b.name, Probe: b.ip, NICs: []api.NIC{{Name: "nic", ID: id, Address: fmt.Sprintf("10.1.2.%d", 10+i)}}})
	}
	s.PublicAddresses = []api.PublicAddress{{Name: "pip", ID: arm + "publicIPAddresses/pip", NIC: "nic"}}
	for _, t := range []string{"core", "edge"} {
		id := arm + "routeTables/" + t
		w.cloud.add(id, false)
		s.RouteTables = append(s.RouteTables, api.RouteTable{ID: id, Routes: []api.Route{{Name: "default", Prefix: "0.0.0.0/0", NIC: "nic"}}})
	}
}
