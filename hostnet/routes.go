package hostnet

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
)

// Routes keeps the routes of many owners in one namespace. An owner states all it
// wants; what it wanted before and wants no more is removed, and a changed next hop is
// replaced in one atomic change of the kernel. Safe for concurrent use.
//
// The books are in memory. After a restart every owner states again what it wants
// (routes in place stay in place), then Sweep removes what nobody wants any more.
type Routes struct {
	net *Net

	mu     sync.Mutex
	wanted map[RouteKey]*wantedRoute
}

type wantedRoute struct {
	Route
	owner string
	// installed says that the kernel had it when we last looked: the place is ours, even if it was changed since.
	installed bool
}

// NewRoutes starts with empty books and changes nothing.
func (n *Net) NewRoutes() *Routes { return &Routes{net: n, wanted: map[RouteKey]*wantedRoute{}} }

// Set makes routes the whole set of owner. A set that makes no sense is refused whole (ErrInvalid). Otherwise as
// much as possible takes effect, next hops of present routes first, and the error names the rest: routes in the place
// of somebody else's (ErrForeign), routes of another owner (ErrTaken), routes that the kernel refuses. What was refused
// for any reason but ErrTaken stays wanted: Repair tries it again.
func (r *Routes) Set(owner string, routes []Route) error {
	next, err := index(routes)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	var check []*wantedRoute
	for _, k := range sortedKeys(next) {
		w := r.wanted[k]
		switch {
		case w != nil && w.owner != owner:
			errs = append(errs, fmt.Errorf("route %s: %w: %s", k, ErrTaken, w.owner))
			delete(next, k)
		case w != nil && w.installed && w.Route != next[k]:
			w.Route = next[k]
			errs = append(errs, r.net.ReplaceRoute(w.Route))
		default:
			w = &wantedRoute{Route: next[k], owner: owner, installed: w != nil && w.installed}
			r.wanted[k] = w
			check = append(check, w)
		}
	}
	if len(check) > 0 {
		_, err := r.ensure(check)
		errs = append(errs, err)
	}
	errs = append(errs, r.removeOthers(owner, next))
	return errors.Join(errs...)
}

// removeOthers removes the owner's routes that are not in keep.
func (r *Routes) removeOthers(owner string, keep map[RouteKey]Route) error {
	var errs []error
	for _, k := range sortedKeys(r.wanted) {
		if _, kept := keep[k]; kept || r.wanted[k].owner != owner {
			continue
		}
		if err := r.net.DeleteRoute(k); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(r.wanted, k)
	}
	return errors.Join(errs...)
}

// ensure looks at the kernel and puts right what is not as wanted. It gives the number of changes by owner.
func (r *Routes) ensure(list []*wantedRoute) (map[string]int, error) {
	kernel, err := r.net.kernelRoutes()
	if err != nil {
		return nil, err
	}
	changed := map[string]int{}
	var errs []error
	for _, w := range list {
		did, err := r.ensureOne(w, kernel[w.Key()])
		if err != nil {
			errs = append(errs, &OwnerError{w.owner, err})
		}
		if did {
			changed[w.owner]++
		}
	}
	return changed, errors.Join(errs...)
}

func (r *Routes) ensureOne(w *wantedRoute, have []netlink.Route) (changed bool, err error) {
	var ours, foreign *netlink.Route
	for i := range have {
		if have[i].Protocol == Protocol {
			ours = &have[i]
		} else {
			foreign = &have[i]
		}
	}
	switch {
	case ours != nil && r.net.same(w.Route, *ours):
		w.installed = true
		return false, nil
	case ours != nil || w.installed:
		err = r.net.ReplaceRoute(w.Route)
	case foreign != nil:
		return false, fmt.Errorf("route %s: %w: %s", w.Key(), ErrForeign, r.net.describe(*foreign))
	default:
		err = r.net.createRoute(w.Route)
	}
	w.installed = w.installed || err == nil
	return err == nil, err
}

// same tells whether the kernel's route is the wanted one.
func (n *Net) same(w Route, k netlink.Route) bool {
	if len(k.MultiPath) > 0 || w.Via.IsValid() != (k.Gw != nil) || w.Via.IsValid() && !k.Gw.Equal(w.Via.AsSlice()) {
		return false
	}
	if w.Link == "" {
		return true
	}
	l, err := n.nl.LinkByName(w.Link)
	return err == nil && l.Attrs().Index == k.LinkIndex
}

// Repair compares the kernel with what is wanted and puts it right: routes that others removed or changed, routes
// that went with a link, routes that could not be made before. It counts the changes by owner; the error is made of OwnerErrors.
func (r *Routes) Repair() (map[string]int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wanted) == 0 {
		return nil, nil
	}
	var list []*wantedRoute
	for _, k := range sortedKeys(r.wanted) {
		list = append(list, r.wanted[k])
	}
	return r.ensure(list)
}

// Sweep removes the routes that carry our mark and that nobody wants, and names them. To be called once after a
// restart, when every owner has stated again what it wants.
func (r *Routes) Sweep() ([]RouteKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kernel, err := r.net.kernelRoutes()
	if err != nil {
		return nil, err
	}
	var swept []RouteKey
	var errs []error
	for _, k := range sortedKeys(kernel) {
		mine := slices.ContainsFunc(kernel[k], func(kr netlink.Route) bool { return kr.Protocol == Protocol })
		if !mine || r.wanted[k] != nil {
			continue
		}
		if err := r.net.DeleteRoute(k); err != nil {
			errs = append(errs, err)
			continue
		}
		swept = append(swept, k)
	}
	return swept, errors.Join(errs...)
}

// Wants tells whether some owner has a route with this key: what happens to others is of no interest.
func (r *Routes) Wants(k RouteKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted[k] != nil
}

// OwnerError is an error about one owner's routes or addresses.
type OwnerError struct {
	Owner string
	Err   error
}

func (e *OwnerError) Error() string { return e.Err.Error() }
func (e *OwnerError) Unwrap() error { return e.Err }

// ByOwner takes apart an error that is made of OwnerErrors.
func ByOwner(err error) map[string]error {
	out := map[string]error{}
	var add func(error)
	add = func(err error) {
		var o *OwnerError
		if list, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range list.Unwrap() {
				add(e)
			}
		} else if errors.As(err, &o) {
			out[o.Owner] = errors.Join(out[o.Owner], o.Err)
		}
	}
	if err != nil {
		add(err)
	}
	return out
}

func index(routes []Route) (map[RouteKey]Route, error) {
	out := make(map[RouteKey]Route, len(routes))
	for _, r := range routes {
		if err := r.Validate(); err != nil {
			return nil, err
		}
		k := r.Key()
		if old, twice := out[k]; twice {
			return nil, fmt.Errorf("route %s: %w: wanted twice, via %s and via %s", k, ErrInvalid, old.Via, r.Via)
		}
		r.Table = k.Table
		out[k] = r
	}
	return out, nil
}

func sortedKeys[V any](m map[RouteKey]V) []RouteKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b RouteKey) int {
		if a.Table != b.Table {
			return int(int64(a.Table) - int64(b.Table))
		}
		return a.Prefix.Compare(b.Prefix)
	})
}
