package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/hypervisor"
)

// Discover the machines of this host: those of this driver, and what other QEMUs tell by their command lines.
func (d *Driver) Discover(ctx context.Context) ([]hypervisor.Found, error) {
	names, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []hypervisor.Found
	ours := map[int]bool{}
	for _, name := range names {
		m, err := d.definition(name)
		if errors.Is(err, hypervisor.ErrNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, fail("discover", name, err)
		}
		s, err := d.status(ctx, name)
		if err != nil {
			s.State, s.Reason = hypervisor.Crashed, err.Error()
		}
		ours[s.PID] = true
		out = append(out, hypervisor.Found{Machine: m, Ours: true, Status: s})
	}
	others, err := strangers(ours)
	if err != nil {
		return nil, err
	}
	out = append(out, others...)
	sort.SliceStable(out, func(i, j int) bool { return out[i].Machine.Name < out[j].Machine.Name })
	return out, nil
}

// strangers are the QEMUs of this host that are not ours.
func strangers(ours map[int]bool) ([]hypervisor.Found, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []hypervisor.Found
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || ours[pid] {
			continue
		}
		args := commandLine(pid)
		if len(args) == 0 || !strings.HasPrefix(filepath.Base(args[0]), "qemu-system-") {
			continue
		}
		m := readArguments(args[1:])
		if m.Name == "" {
			m.Name = fmt.Sprintf("qemu-%d", pid)
		}
		for i, disk := range m.Disks {
			if disk.File != "" && !filepath.IsAbs(disk.File) {
				if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil {
					m.Disks[i].File = filepath.Join(cwd, disk.File)
				}
			}
		}
		out = append(out, hypervisor.Found{Machine: m, Status: hypervisor.Status{State: hypervisor.Running, PID: pid, Started: startTime(pid)}})
	}
	return out, nil
}
