package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/hostnet"
)

// namespaceDir is where ip(8) keeps named namespaces.
const namespaceDir = "/run/netns"

// space is one network namespace: one machine of the lab.
type space struct {
	*hostnet.Net
	name string // of the namespace, unique on this host
}

func newSpace(name string) (*space, error) {
	n, err := hostnet.CreateNamespace(name)
	if err != nil {
		return nil, err
	}
	return &space{Net: n, name: name}, nil
}

// remove kills what runs inside and deletes the namespace.
func (s *space) remove() error {
	s.killAll()
	return errors.Join(s.Close(), hostnet.DeleteNamespace(s.name))
}

// killAll kills every process inside, and those they start meanwhile.
func (s *space) killAll() { killInside(s.name) }

func killInside(namespace string) {
	for range 20 {
		pids := pidsInside(namespace)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func pidsInside(namespace string) []int {
	var want, got unix.Stat_t
	if unix.Stat(filepath.Join(namespaceDir, namespace), &want) != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if unix.Stat("/proc/"+e.Name()+"/ns/net", &got) == nil && got.Ino == want.Ino && got.Dev == want.Dev && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	return !ok || strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// addSwitch makes a bridge that floods multicast and is up.
func (s *space) addSwitch(name string) error {
	if err := s.AddBridge(name); err != nil {
		return err
	}
	// Without anyone who asks, a snooping bridge forgets who wants the peers' multicast.
	if _, err := s.Run("ip", "link", "set", name, "type", "bridge", "mcast_snooping", "0"); err != nil {
		return err
	}
	return s.SetUp(name, true)
}

// plug makes the link a port of the bridge and brings it up.
func (s *space) plug(link, bridge string) error {
	if err := s.SetMaster(link, bridge); err != nil {
		return err
	}
	return s.SetUp(link, true)
}

// addresses of a link, in CIDR form.
func (s *space) addresses(link string) ([]string, error) {
	out, err := s.Run("ip", "-o", "-4", "address", "show", "dev", link)
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 3 {
			all = append(all, fields[3])
		}
	}
	return all, nil
}

// setRoute points prefix at the gateway. The lab's routes do not carry Understudy's mark: an agent would take them
// for its own of an earlier life.
func (s *space) setRoute(prefix, via string) error {
	_, err := s.Run("ip", "route", "replace", prefix, "via", via)
	return err
}

// dropRoutes removes every route to prefix.
func (s *space) dropRoutes(prefix string) error {
	_, err := s.Run("ip", "route", "flush", "exact", prefix)
	return err
}

// nextHop gives the gateway of the route to exactly this prefix, "" if there is none.
func (s *space) nextHop(prefix string) (string, error) {
	out, err := s.Run("ip", "route", "show", "exact", prefix)
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(out, " via ")
	via, _, _ := strings.Cut(rest, " ")
	return via, nil
}

func (s *space) sysctls(settings map[string]string) error {
	for key, value := range settings {
		if err := s.SetSysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

// dropForeignAddresses leaves the cable's link only the address it was built with.
func (s *space) dropForeignAddresses(c cable) error {
	all, err := s.addresses(c.link)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a == c.address {
			continue
		}
		if err := s.DeleteAddress(c.link, netip.MustParsePrefix(a)); err != nil {
			return err
		}
	}
	return nil
}

// output runs a command in the namespace to its end and gives what it printed to its standard output.
func (s *space) output(ctx context.Context, path string, args ...string) (string, error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := s.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s %s in %s: %w: %s", filepath.Base(path), strings.Join(args, " "), s.name, err,
			strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}
