package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/hypervisor"
	"github.com/understudy-ha/understudy/hypervisor/qemu"
)

func agentDiscoverVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "discover [MACHINE]",
		Short: "List the virtual machines that run on this host, or describe one as a ProtectedMachine",
		Long: `List the virtual machines that QEMU runs on this host, whoever started them. Nothing is changed, and no controller is asked.

With MACHINE it is printed as a ProtectedMachine, to be completed and applied: words in capitals are yours to choose. Its VM is then run
by Understudy, on the same disks: shut the old one down first, for good.`,
		Example: "  understudy agent discover\n  understudy agent discover web > web.yaml",
		Args:    args("[MACHINE]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			found, err := discover(cmd.Context())
			if err != nil {
				return err
			}
			if len(given) > 0 {
				return c.printDiscovered(found, given[0])
			}
			if c.json {
				return c.printJSON(map[string]any{"items": found})
			}
			if len(found) == 0 {
				c.say("QEMU runs no machine on this host.")
				return nil
			}
			t := newTable("NAME", "PID", "CPUS", "MEMORY", "DISKS", "CARDS")
			for _, f := range found {
				m := f.Machine
				var disks, cards []string
				for _, d := range m.Disks {
					disks = append(disks, diskWords(d))
				}
				for _, n := range m.NICs {
					cards = append(cards, strings.TrimSpace(string(n.Mode)+" "+n.Tap))
				}
				t.add(m.Name, fmt.Sprint(f.Status.PID), fmt.Sprint(m.CPUs), fmt.Sprintf("%d MiB", m.MemoryMiB), commas(disks), commas(cards))
			}
			t.write(c.out, "")
			return nil
		},
	}
}

// discover looks at this host as a hypervisor that has no machine of its own.
func discover(ctx context.Context) ([]hypervisor.Found, error) {
	dir, err := os.MkdirTemp("", "understudy-discover-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	hv, err := qemu.Open(qemu.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	return hv.Discover(ctx)
}

func diskWords(d hypervisor.Disk) string {
	if d.NBD != nil {
		return "nbd " + cmp.Or(d.NBD.Socket, d.NBD.Address) + " " + d.NBD.Export
	}
	return d.File
}

func (c *console) printDiscovered(found []hypervisor.Found, name string) error {
	var names []string
	for _, f := range found {
		names = append(names, f.Machine.Name)
		if f.Machine.Name != name {
			continue
		}
		m, err := discovered(f.Machine)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(m)
		}
		b, err := yaml.Marshal(m)
		if err == nil {
			_, err = c.out.Write(b)
		}
		return err
	}
	return api.Errorf(api.CodeNotFound, "agent discover: %q: want one that runs here: %s", name, commas(names))
}

// discovered is a machine as it could be protected, without what only people know. One whose disks are not files cannot.
func discovered(m hypervisor.Machine) (map[string]any, error) {
	var disks []map[string]any
	for i, d := range m.Disks {
		if !filepath.IsAbs(d.File) {
			return nil, api.Errorf(api.CodeInvalid, "agent discover: %s: disk %d is %s: want raw files or block devices; others are copied to such first", m.Name, i, diskWords(d))
		}
		disks = append(disks, map[string]any{"name": fmt.Sprintf("disk%d", i), "path": d.File})
	}
	var nics []map[string]any
	for _, n := range m.NICs {
		nic := map[string]any{"mode": string(n.Mode)}
		if n.MAC != "" {
			nic["mac"] = n.MAC
		}
		if n.Tap != "" {
			nic["tap"] = n.Tap
		}
		var forwards []map[string]any
		for _, f := range n.Forwards {
			forwards = append(forwards, map[string]any{"listen": f.Listen.String(), "port": f.Port})
		}
		if forwards != nil {
			nic["forwards"] = forwards
		}
		nics = append(nics, nic)
	}
	vm := map[string]any{"cpus": m.CPUs, "memoryMiB": m.MemoryMiB, "firmware": string(cmp.Or(m.Firmware, hypervisor.BIOS)), "guestAgent": m.GuestAgent}
	if nics != nil {
		vm["nics"] = nics
	}
	here, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return map[string]any{"apiVersion": api.Version, "kind": api.KindProtectedMachine, "metadata": map[string]any{"name": strings.ToLower(m.Name)},
		"spec": map[string]any{"vm": vm, "disks": disks, "source": map[string]any{"site": "SITE", "fabric": "FABRIC", "node": here},
			"recovery": map[string]any{"site": "OTHER-SITE", "fabric": "OTHER-FABRIC", "node": "OTHER-NODE"},
			"policy":   "POLICY", "processServer": "PROCESS-SERVER", "vault": "VAULT"}}, nil
}
