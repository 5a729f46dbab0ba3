package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// estate is what a world of machines has: two sites with a host, a process server and a vault each, and machines that are
// protected from one to the other. What its nodes' agents run as processes is modelled after packages engines, capture,
// replication and vault; what decides (controller, recovery, job, lead, steward) is the product's own.
type estate struct {
	w      *world
	guests []*guest
	vaults map[string]*vaultModel
	// source and target are the hosts, home and away the process servers' nodes.
	source, target, home, away *node

	points int             // numbers recovery points
	up     map[string]bool // instances that were up, by guest and instance
	// unbegun are branches that need not be: the run that was to leave them never began.
	unbegun map[string]bool
	told    map[api.Ref]told
	epochs  map[generation]bool // that assignments had
	asks    map[api.Ref]ask
	pins    map[string]time.Duration  // by job: when its keeper was known to know
	shown   map[string]string         // by key of a status: what a leader wrote last
	ops     map[api.OperationKind]int // that succeeded
	seen    []spot                    // of the latest look
}

// guest is a protected machine, as the world knows it.
type guest struct {
	spec   *api.ProtectedMachine
	ref    api.Ref
	points map[string]image // what its disks held when a point was made
}

// blocks of a guest's disk, each of which holds one of a few values: what is written again is often what was there before.
const (
	blocks = 6
	values = 4
)

type image [blocks]int

func (w *world) populateEstate() {
	e := &estate{w: w, vaults: map[string]*vaultModel{}, up: map[string]bool{}, unbegun: map[string]bool{}, told: map[api.Ref]told{}, epochs: map[generation]bool{},
		asks: map[api.Ref]ask{}, shown: map[string]string{}, pins: map[string]time.Duration{}, ops: map[api.OperationKind]int{}}
	w.estate = e
	for _, n := range []struct {
		name string
		at   **node
	}{{"hq", &e.source}, {"dr", &e.target}, {"ps", &e.home}, {"back-ps", &e.away}} {
		a := w.addNode(n.name, nil)
		a.house = &house{n: a, on: true, disks: map[string]*image{}}
		*n.at = a
	}
	e.addVault("vault", "dr", e.target)
	e.addVault("back", "hq", e.source)
	e.addServer("ps", "hq", e.home)
	e.addServer("back-ps", "dr", e.away)
	p := &api.ReplicationPolicy{Header: header(api.KindReplicationPolicy, "gold")}
	p.Spec.CrashConsistentEvery = api.Duration(time.Duration(8+w.rng.IntN(13)) * time.Second)
	p.Spec.AppConsistentEvery = new(api.Duration)
	w.put(p)
	for i := range 1 + w.rng.IntN(2) {
		e.addGuest(fmt.Sprintf("m%d", i))
	}
}

func (e *estate) addVault(name, site string, keeper *node) {
	v := &api.Vault{Header: header(api.KindVault, name), Spec: api.VaultSpec{Site: site, URL: "file:///" + name, Keeper: keeper.m.name, KeyRef: "key-" + name}}
	v.Spec.Recipient = "age1" + strings.Repeat("q", 58)
	e.w.put(v)
	e.vaults[name] = &vaultModel{w: e.w, name: name, at: e.w.net.add("store-" + name), streams: map[string]*stream{}, mail: map[string]*letter{}, pins: map[string]streamBase{}}
}

func (e *estate) addServer(name, site string, n *node) {
	e.w.put(&api.ProcessServer{Header: header(api.KindProcessServer, name), Spec: api.ProcessServerSpec{Node: n.m.name, Site: site, Address: n.m.name + ".example.org:9443"}})
}

func (e *estate) addGuest(name string) {
	w := e.w
	m := &api.ProtectedMachine{Header: header(api.KindProtectedMachine, name)}
	s := &m.Spec
	s.UID, s.Policy, s.ProcessServer, s.Vault = "u-"+name, "gold", "ps", "vault"
	s.Source = api.MachineSource{Site: "hq", Fabric: "hq", Node: "hq"}
	s.Disks = []api.MachineDisk{{Name: "root", Path: "/srv/" + name}}
	s.Recovery = api.MachineRecovery{Site: "dr", Fabric: "dr", Node: "dr"}
	s.Failback = &api.MachineFailback{Vault: "back", ProcessServer: "back-ps"}
	s.StopTimeout = api.Duration(10 * time.Second)
	if w.chance(0.75) {
		s.VM = &api.VirtualMachine{}
	}
	if w.chance(0.7) {
		s.Check = &api.ServiceCheck{Address: "10.0.0.1:80"}
		s.Recovery.Check, s.Recovery.TestCheck = &api.ServiceCheck{Address: "10.0.0.2:80"}, &api.ServiceCheck{Address: "10.0.0.3:80"}
	}
	g := &guest{spec: m, ref: m.Ref(), points: map[string]image{}}
	first := image{}
	for i := range first {
		first[i] = w.rng.IntN(values)
	}
	e.source.house.disks[s.UID] = &first
	w.put(m)
	e.guests = append(e.guests, g)
}

// guest finds a machine by the owner of its sections, and whether they are a drill's.
func (e *estate) guest(owner string) (g *guest, drill bool) {
	for _, g := range e.guests {
		switch owner {
		case g.ref.String():
			return g, false
		case g.ref.String() + ":drill":
			return g, true
		}
	}
	return nil, false
}

// at finds a guest by its reference.
func (e *estate) at(ref api.Ref) *guest {
	i := slices.IndexFunc(e.guests, func(g *guest) bool { return g.ref == ref })
	if i < 0 {
		return nil
	}
	return e.guests[i]
}

// machine gives the machine's part of its assignment as stored; nil before the first.
func (g *guest) machine(w *world) *api.MachineAssignment {
	if a := w.assignment(g.ref); a != nil {
		return a.Machine
	}
	return nil
}
