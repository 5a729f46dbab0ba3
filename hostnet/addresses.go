package hostnet

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/clock"
)

// Address is one IPv4 address, with its prefix length, on one link.
type Address struct {
	Link   string
	Prefix netip.Prefix
}

func (a Address) String() string { return a.Prefix.String() + " on " + a.Link }

// Addresses keeps the addresses of many owners in one namespace, each for a limited time. The kernel itself takes an
// address away when its time is over, so that a process that died, or hangs, does not keep it.
//
// What the kernel guarantees: it counts in whole seconds, so a lifetime is rounded down to one, to at least one
// second, and the address goes at most 0.25 s after that. A lifetime of a second or more is therefore exceeded by no more than
// 0.25 s; one below a second by no more than 1.25 s. The kernel's clock for it stands still while the machine sleeps.
//
// Safe for concurrent use.
type Addresses struct {
	net      *Net
	announce *Announcer
	now      func() clock.Instant

	mu     sync.Mutex
	wanted map[Address]*wantedAddress
}

type wantedAddress struct {
	owner string
	until clock.Instant
}

// NewAddresses starts with empty books and changes nothing; Close it.
func (n *Net) NewAddresses() (*Addresses, error) {
	a, err := n.NewAnnouncer()
	if err != nil {
		return nil, err
	}
	return &Addresses{net: n, announce: a, now: clock.System, wanted: map[Address]*wantedAddress{}}, nil
}

// Close leaves the addresses as they are.
func (a *Addresses) Close() error { return a.announce.Close() }

// Set makes addrs the whole set of owner, for the time valid from now; those that are new are announced. What it
// had before and wants no more is removed first. Errors are those of Routes.Set.
func (a *Addresses) Set(owner string, addrs []Address, valid time.Duration) error {
	for _, ad := range addrs {
		if !ad.Prefix.IsValid() || !ad.Prefix.Addr().Is4() || ad.Link == "" {
			return fmt.Errorf("address %s: %w: want an IPv4 address with a prefix length, and a link", ad, ErrInvalid)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := []error{a.removeOthers(owner, addrs)}
	until := a.now().Add(valid)
	var mine []Address
	for _, ad := range addrs {
		w := a.wanted[ad]
		if w != nil && w.owner != owner {
			errs = append(errs, fmt.Errorf("address %s: %w: %s", ad, ErrTaken, w.owner))
			continue
		}
		a.wanted[ad] = &wantedAddress{owner: owner, until: until}
		mine = append(mine, ad)
	}
	if len(mine) > 0 {
		_, err := a.ensure(mine, true)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Renew gives the owner's addresses the time valid from now, and announces them again.
func (a *Addresses) Renew(owner string, valid time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := a.of(owner)
	for _, ad := range mine {
		a.wanted[ad].until = a.now().Add(valid)
	}
	if len(mine) == 0 {
		return nil
	}
	_, err := a.ensure(mine, true)
	for _, ad := range mine {
		err = errors.Join(err, a.announce.Announce(ad.Link, ad.Prefix.Addr()))
	}
	return err
}

// Repair puts back the addresses that others removed while their time lasts. Counts and errors are as in Routes.Repair.
func (a *Addresses) Repair() (map[string]int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.wanted) == 0 {
		return nil, nil
	}
	return a.ensure(slices.SortedFunc(maps.Keys(a.wanted), compareAddresses), false)
}

// Sweep removes the addresses that carry our mark and that nobody wants, and names them.
func (a *Addresses) Sweep() ([]Address, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	have, err := a.net.byPlace()
	if err != nil {
		return nil, err
	}
	var swept []Address
	var errs []error
	for ad, k := range have {
		if k.proto == Protocol && a.wanted[ad] == nil {
			errs = append(errs, a.net.DeleteAddress(ad.Link, ad.Prefix))
			swept = append(swept, ad)
		}
	}
	slices.SortFunc(swept, compareAddresses)
	return swept, errors.Join(errs...)
}

func (a *Addresses) of(owner string) []Address {
	var out []Address
	for ad, w := range a.wanted {
		if w.owner == owner {
			out = append(out, ad)
		}
	}
	slices.SortFunc(out, compareAddresses)
	return out
}

func (a *Addresses) removeOthers(owner string, keep []Address) error {
	var gone []Address
	for _, ad := range a.of(owner) {
		if !slices.Contains(keep, ad) {
			gone = append(gone, ad)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	have, err := a.net.byPlace()
	if err != nil {
		return err
	}
	var errs []error
	for _, ad := range gone {
		if k, there := have[ad]; there && k.ours() {
			if err := a.net.DeleteAddress(ad.Link, ad.Prefix); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		delete(a.wanted, ad)
	}
	return errors.Join(errs...)
}

// ensure makes what is missing and announces it; with renew it also sets the lifetimes of what is there.
func (a *Addresses) ensure(list []Address, renew bool) (map[string]int, error) {
	have, err := a.net.byPlace()
	if err != nil {
		return nil, err
	}
	changed := map[string]int{}
	var errs []error
	for _, ad := range list {
		w := a.wanted[ad]
		k, there := have[ad]
		left := w.until.Since(a.now())
		if left <= 0 || there && k.ours() && !renew || left < time.Second && !renew {
			continue // what ends within a second cannot be put back for less than a second
		}
		if there && !k.ours() {
			errs = append(errs, &OwnerError{w.owner, fmt.Errorf("address %s: %w", ad, ErrForeign)})
			continue
		}
		if err := a.put(ad, left, !there); err != nil {
			errs = append(errs, &OwnerError{w.owner, err})
		} else if !there {
			changed[w.owner]++
		}
	}
	return changed, errors.Join(errs...)
}

func (a *Addresses) put(ad Address, left time.Duration, isNew bool) error {
	l, err := a.net.nl.LinkByName(ad.Link)
	if err != nil {
		return fmt.Errorf("add address %s: %w", ad, err)
	}
	if isNew {
		// Else the kernel removes every address of a subnet together with the first of it.
		if err := a.net.SetSysctl("net/ipv4/conf/"+ad.Link+"/promote_secondaries", "1"); err != nil {
			return err
		}
	}
	if err := a.net.putAddress(l.Attrs().Index, ad.Prefix, left); err != nil {
		return fmt.Errorf("add address %s: %w", ad, err)
	}
	if isNew {
		return a.announce.Announce(ad.Link, ad.Prefix.Addr())
	}
	return nil
}

// byPlace lists the kernel's addresses by where they are.
func (n *Net) byPlace() (map[Address]kernelAddress, error) {
	list, err := n.addresses()
	if err != nil {
		return nil, err
	}
	links, err := n.nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := linkNames(links)
	out := map[Address]kernelAddress{}
	for _, k := range list {
		out[Address{names[k.index], k.prefix}] = k
	}
	return out, nil
}

func compareAddresses(a, b Address) int {
	if a.Link != b.Link {
		if a.Link < b.Link {
			return -1
		}
		return 1
	}
	return a.Prefix.Compare(b.Prefix)
}
