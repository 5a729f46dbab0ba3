package hostnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const namespaceDir = "/run/netns"

// CreateNamespace makes a named namespace with its loopback up, and opens it.
func CreateNamespace(name string) (*Net, error) {
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
