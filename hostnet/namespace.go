package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const namespaceDir = "/run/netns"

// shareNamespaces makes the directory of names a mount of its own, as ip(8) does at its first namespace. If that came later, its mount would
// hide the names that are there, and they could not be removed.
func shareNamespaces() error {
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err // EINVAL: it is no mount yet
	}
	if err := unix.Mount(namespaceDir, namespaceDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
}

// CreateNamespace makes a named namespace with its loopback up, and opens it.
func CreateNamespace(name string) (*Net, error) {
	if err := shareNamespaces(); err != nil {
		return nil, fmt.Errorf("share %s: %w", namespaceDir, err)
	}
	err := onThread(func() error {
		old, err := netns.Get()
		if err != nil {
			return err
		}
		defer old.Close()
		made, err := netns.NewNamed(name)
		if err != nil {
			return fmt.Errorf("create network namespace %s: %w", name, err)
		}
		_ = made.Close()
		if err := netns.Set(old); err != nil {
			return &strandedError{err}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	n, err := Open(name)
	if err != nil {
		return nil, err
	}
	if err := n.SetUp("lo", true); err != nil {
		_ = n.Close()
		return nil, errors.Join(err, DeleteNamespace(name))
	}
	return n, nil
}

// DeleteNamespace removes the name; the namespace goes with its last process. One that is not there is no error.
func DeleteNamespace(name string) error {
	err := netns.DeleteNamed(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	return nil
}

// Namespaces lists the named namespaces, sorted.
func Namespaces() ([]string, error) {
	entries, err := os.ReadDir(namespaceDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

// nsFd is how netlink names the namespace that a link goes to.
func (n *Net) nsFd() netlink.NsFd { return netlink.NsFd(int(n.ns)) }
