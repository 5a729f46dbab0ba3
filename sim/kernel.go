package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// kernel is a node's network as package hostnet changes it. It outlives the process and ends with the boot.
type kernel struct {
	boot   int
	routes []routesOf
	held   []heldBy
	books  []string // owners whose sections this process has set, "engine owner"
}

type routesOf struct {
	owner  string
	routes []api.KernelRoute
}

// heldBy are an owner's addresses; the kernel takes them away when their time is over.
type heldBy struct {
	owner     string
	addresses []api.HeldAddress
	there     bool
	set       int // numbers the lifetimes
}

var errKernel = errors.New("the kernel refused")

func (k *kernel) begin() { k.books = nil }

func (k *kernel) note(engine, owner string) {
	if !slices.Contains(k.books, engine+owner) {
		k.books = append(k.books, engine+owner)
	}
}

// apply makes a section its owner's whole share.
func (a *node) apply(s api.Section, valid time.Duration) error {
	if a.w.faults.applyFails() {
		return errKernel
	}
	k := &a.kernel
	k.note(s.Engine, s.Owner)
	switch s.Engine {
	case api.EngineRoutes:
		i := slices.IndexFunc(k.routes, func(r routesOf) bool { return r.owner == s.Owner })
		if i < 0 {
			i = len(k.routes)
			k.routes = append(k.routes, routesOf{owner: s.Owner})
		}
		k.routes[i].routes = s.Routes.Routes
	case api.EngineAddresses:
		if len(s.Addresses.Addresses) > 0 && valid <= 0 {
			return errKernel
		}
		k.hold(a, s.Owner, s.Addresses.Addresses, valid)
	}
	a.w.check.applied(a, s)
	return nil
}

// hold makes the kernel hold exactly these addresses of the owner, for a while.
func (k *kernel) hold(a *node, owner string, addresses []api.HeldAddress, valid time.Duration) {
	i := slices.IndexFunc(k.held, func(h heldBy) bool { return h.owner == owner })
	if i < 0 {
		i = len(k.held)
		k.held = append(k.held, heldBy{owner: owner})
	}
	k.held[i].addresses = addresses
	k.give(a, i, valid)
}

func (k *kernel) renew(a *node, owner string, valid time.Duration) {
	i := slices.IndexFunc(k.held, func(h heldBy) bool { return h.owner == owner })
	if i >= 0 && len(k.held[i].addresses) > 0 {
		k.give(a, i, valid)
	}
}

// give starts a lifetime. The kernel counts whole seconds, at least one, and is up to a quarter late; its clock stands
// still while the machine is suspended.
func (k *kernel) give(a *node, i int, valid time.Duration) {
	h := &k.held[i]
	h.there = len(h.addresses) > 0
	h.set++
	if h.there {
		set, boot := h.set, k.boot
		life := max(valid.Truncate(time.Second), time.Second) + a.w.upTo(kernelLate)
		k.timer(a, a.m.now().Mono+life, func() {
			if k.boot == boot && k.held[i].set == set {
				k.held[i].there = false
				a.w.note(a.m.name, "kernel drops", k.held[i].owner)
			}
		})
	}
	a.w.check.holders()
}

const kernelLate = 250 * time.Millisecond

func (k *kernel) timer(a *node, due time.Duration, f func()) {
	left := due - a.m.now().Mono
	a.w.after(time.Duration(float64(left)/(1+a.m.drift))+time.Microsecond, func() {
		switch {
		case a.m.power == suspended:
			a.m.asleep = append(a.m.asleep, func() { k.timer(a, due, f) })
		case a.m.now().Mono < due:
			k.timer(a, due, f)
		default:
			f()
		}
	})
}

// sweep removes what an earlier process made and this one has not.
func (k *kernel) sweep(routes bool) {
	for i := range k.held {
		if !slices.Contains(k.books, api.EngineAddresses+k.held[i].owner) {
			k.held[i].addresses, k.held[i].there = nil, false
		}
	}
	for i := range k.routes {
		if routes && !slices.Contains(k.books, api.EngineRoutes+k.routes[i].owner) {
			k.routes[i].routes = nil
		}
	}
}

// holding tells whether the machine answers for an address now.
func (a *node) holding(address string) bool {
	if a.m.power == suspended || a.box != nil && !a.box.on {
		return false
	}
	for _, h := range a.kernel.held {
		if h.there && slices.ContainsFunc(h.addresses, func(x api.HeldAddress) bool { return x.Address == address }) {
			return true
		}
	}
	return false
}

func (a *node) routesOf(owner string) []api.KernelRoute {
	for _, r := range a.kernel.routes {
		if r.owner == owner {
			return r.routes
		}
	}
	return nil
}
