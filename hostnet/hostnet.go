// Package hostnet is the only package that changes the host's network: namespaces,
// links, addresses, routes, rules, sysctls and nft tables. It prints what it finds as
// text (Net.Dump), which is also how it is tested.
//
// What is done for somebody carries a mark, so that a process that starts again
// knows its own: routes carry the routing protocol number Protocol, addresses the
// address protocol of the same number (Linux 5.18 and later). Routes and Addresses
// keep the books of several owners in one namespace: each owner states everything it
// wants, and nothing of anybody else is ever removed or overwritten.
package hostnet

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Protocol marks the routes (RTA_PROTOCOL) and addresses (IFA_PROTO) that Understudy made. `ip route` shows it as
// "proto 85". It is free in the registry that iproute2 ships.
const Protocol = 85

// Why a change is refused.
var (
	// ErrForeign says that somebody else made what stands in the way.
	ErrForeign = errors.New("made by somebody else")
	// ErrTaken says that another owner has it.
	ErrTaken = errors.New("has another owner")
	// ErrInvalid says that what is wanted makes no sense.
	ErrInvalid = errors.New("invalid")
)

// Net is one network namespace. Its methods are safe for concurrent use until Close.
type Net struct {
	name string
	ns   netns.NsHandle
	nl   *netlink.Handle
}

// Current opens the namespace of this process.
func Current() (*Net, error) {
	var n *Net
	err := onThread(func() (err error) {
		ns, err := netns.Get()
		if err != nil {
			return fmt.Errorf("open the current network namespace: %w", err)
		}
		n, err = open("", ns)
		return err
	})
	return n, err
}

// Open opens a named namespace, one of those that `ip netns` lists.
func Open(name string) (*Net, error) {
	ns, err := netns.GetFromName(name)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", name, err)
	}
	return open(name, ns)
}

func open(name string, ns netns.NsHandle) (*Net, error) {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		_ = ns.Close()
		return nil, fmt.Errorf("network namespace %s: netlink: %w", name, err)
	}
	return &Net{name: name, ns: ns, nl: h}, nil
}

// Name of the namespace; "" for the one of the process.
func (n *Net) Name() string { return n.name }

// Close lets go of the namespace; it goes on existing.
func (n *Net) Close() error {
	n.nl.Close()
	if n.ns.IsOpen() {
		return n.ns.Close()
	}
	return nil
}

// Do runs f on a thread that is in the namespace. What f opens stays in it; goroutines that f starts do not.
func (n *Net) Do(f func() error) error {
	return onThread(func() error { return n.within(f) })
}

// within runs f in the namespace; the caller owns its thread.
func (n *Net) within(f func() error) error {
	old, err := netns.Get()
	if err != nil {
		return err
	}
	defer old.Close()
	if err := netns.Set(n.ns); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	ferr := f()
	if err := netns.Set(old); err != nil {
		return errors.Join(ferr, &strandedError{err})
	}
	return ferr
}

// strandedError says that the thread could not go back to where it was.
type strandedError struct{ err error }

func (e *strandedError) Error() string { return "leave a network namespace: " + e.err.Error() }
func (e *strandedError) Unwrap() error { return e.err }

// onThread runs f on a thread of its own. A thread that could not go back is thrown away.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := f()
		var stranded *strandedError
		if !errors.As(err, &stranded) {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Start starts cmd in the namespace.
func (n *Net) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// Run runs a program in the namespace and gives what it printed, both streams together.
func (n *Net) Run(name string, args ...string) (string, error) {
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		return string(out), fmt.Errorf("%s in %s: %w: %s", name, n.name, err, out)
	}
	return string(out), nil
}
