package lab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/hostnet"
)

// runsDir has one directory a run: its logs, the files of its processes, and who owns it.
const runsDir = "/run/understudy-lab"

// namespacePrefix starts the name of every namespace a run makes.
const namespacePrefix = "understudy-"

// runDir is one run's place on this host.
type runDir struct {
	id   string // four hex digits, unique among the runs on this host
	path string
}

// newRunDir takes a fresh id. It first removes what dead runs left.
func newRunDir() (*runDir, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab makes network namespaces and needs root; run it as root")
	}
	if _, err := Down(false); err != nil {
		return nil, fmt.Errorf("remove what earlier runs left: %w", err)
	}
	for {
		var b [2]byte
		_, _ = rand.Read(b[:])
		r := &runDir{id: hex.EncodeToString(b[:])}
		r.path = filepath.Join(runsDir, r.id)
		if err := os.MkdirAll(runsDir, 0o755); err != nil {
			return nil, err
		}
		err := os.Mkdir(r.path, 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return r, r.setOwner(os.Getpid())
	}
}

// setOwner writes which process the run belongs to; 0 means it stands by itself until `lab down`.
func (r *runDir) setOwner(pid int) error {
	owner := strconv.Itoa(pid)
	if pid != 0 {
		owner += " " + startTime(pid)
	}
	return os.WriteFile(filepath.Join(r.path, "owner"), []byte(owner), 0o644)
}

func (r *runDir) namespace(machine string) string { return namespacePrefix + r.id + "-" + machine }

// sub makes a directory of the run.
func (r *runDir) sub(name string) (string, error) {
	path := filepath.Join(r.path, name)
	return path, os.MkdirAll(path, 0o755)
}

// scratch is the run's directory on a disk, for what must pay for its syncs; the other one is in memory.
func (r *runDir) scratch() string { return "/var/tmp/understudy-lab-" + r.id }

func (r *runDir) remove() error { return errors.Join(os.RemoveAll(r.path), os.RemoveAll(r.scratch())) }

// startTime tells a process from a later one with the same number.
func startTime(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

type ownership int

const (
	ownerGone  ownership = iota // its process died
	ownerAlive                  // its process runs
	ownerNone                   // left standing on purpose
)

func owner(path string) ownership {
	b, err := os.ReadFile(filepath.Join(path, "owner"))
	if err != nil {
		// Between making the directory and writing the owner a run is young, not dead.
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) < 5*time.Second {
			return ownerAlive
		}
		return ownerGone
	}
	pid, started, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, err := strconv.Atoi(pid)
	switch {
	case err != nil:
		return ownerGone
	case n == 0:
		return ownerNone
	case startTime(n) == started && started != "":
		return ownerAlive
	}
	return ownerGone
}

// Down removes the namespaces, processes and files of runs whose process is gone, and, if standing is set, of labs
// that `lab up` left standing. Runs in progress are left alone. It gives the ids of what it removed.
func Down(standing bool) ([]string, error) {
	entries, err := os.ReadDir(runsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, e := range entries {
		path := filepath.Join(runsDir, e.Name())
		switch owner(path) {
		case ownerAlive:
			continue
		case ownerNone:
			if !standing {
				continue
			}
		}
		run := &runDir{id: e.Name(), path: path}
		errs = append(errs, removeNamespaces(run.namespace("")), run.remove())
		removed = append(removed, e.Name())
	}
	return removed, errors.Join(errs...)
}

func removeNamespaces(prefix string) error {
	names, err := hostnet.Namespaces()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			killInside(name)
			errs = append(errs, hostnet.DeleteNamespace(name))
		}
	}
	return errors.Join(errs...)
}
