package engines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/hypervisor"
	"github.com/understudy-ha/understudy/hypervisor/qemu"
)

// VM keeps one virtual machine on this host as its section wants it: up or down. A guest that shuts itself down stays
// down until the section changes or the engine starts anew.
type VM struct {
	hv   hypervisor.Hypervisor
	name string

	mu     sync.Mutex
	failed error
}

// OpenVM takes up the virtual machine of a home, whether it runs or not.
func OpenVM(h Home, name string) (*VM, error) {
	hv, err := qemu.Open(qemu.Config{Dir: h.file("vm"), Memory: filepath.Join(filepath.Dir(string(h)), "hypervisor")})
	if err != nil {
		return nil, err
	}
	return NewVM(hv, name), nil
}

// NewVM takes up a virtual machine of a hypervisor.
func NewVM(hv hypervisor.Hypervisor, name string) *VM { return &VM{hv: hv, name: name} }

// StopVM shuts down the machine that an earlier process of the home may have left running.
func StopVM(ctx context.Context, h Home, name string, grace time.Duration) error {
	return leftVM(h, name, func(v *VM) error { return v.Down(ctx, grace) })
}

// CutVM takes that machine's power away.
func CutVM(ctx context.Context, h Home, name string) error {
	return leftVM(h, name, func(v *VM) error { return v.Cut(ctx) })
}

func leftVM(h Home, name string, do func(*VM) error) error {
	if _, err := os.Stat(h.file("vm")); errors.Is(err, fs.ErrNotExist) {
		return nil // none was ever started here
	}
	v, err := OpenVM(h, name)
	if err != nil {
		return err
	}
	return do(v)
}

// DefineVM makes the hypervisor's definition of a machine whose disks are NBD exports on a unix socket.
func DefineVM(name string, vm *api.VirtualMachine, socket string, disks []api.MachineDisk, readOnly bool) (hypervisor.Machine, error) {
	m := hypervisor.Machine{Name: name, MemoryMiB: vm.MemoryMiB, CPUs: vm.CPUs, Firmware: hypervisor.Firmware(vm.Firmware), GuestAgent: vm.GuestAgent}
	if m.MemoryMiB == 0 {
		m.MemoryMiB = 512
	}
	if m.CPUs == 0 {
		m.CPUs = 1
	}
	for _, d := range disks {
		m.Disks = append(m.Disks, hypervisor.Disk{ID: d.Name, NBD: &hypervisor.NBD{Socket: socket, Export: d.Name}, ReadOnly: readOnly, Cache: hypervisor.Cache(vm.Cache)})
	}
	for i, n := range vm.NICs {
		nic := hypervisor.NIC{MAC: n.MAC, Mode: hypervisor.Mode(n.Mode), Tap: n.Tap}
		for j, f := range n.Forwards {
			a, err := netip.ParseAddrPort(f.Listen)
			if err != nil {
				return m, fmt.Errorf("nics[%d].forwards[%d].listen %q: want IP:PORT", i, j, f.Listen)
			}
			nic.Forwards = append(nic.Forwards, hypervisor.Forward{Listen: a, Port: uint16(f.Port)})
		}
		m.NICs = append(m.NICs, nic)
	}
	return m, m.Validate()
}

// Up starts the machine, or finds it running.
func (v *VM) Up(ctx context.Context, m hypervisor.Machine) error {
	err := v.hv.Start(ctx, m)
	if errors.Is(err, hypervisor.ErrDifferent) {
		if _, err = v.hv.Stop(ctx, v.name, time.Minute); err == nil {
			err = v.hv.Start(ctx, m)
		}
	}
	v.note(err)
	return err
}

// Down shuts the machine down, and takes the power away after grace.
func (v *VM) Down(ctx context.Context, grace time.Duration) error {
	_, err := v.hv.Stop(ctx, v.name, grace)
	if errors.Is(err, hypervisor.ErrNotFound) {
		err = nil
	}
	v.note(err)
	return err
}

// Cut takes the power away at once. Its disks may refuse everything: they are not waited for.
func (v *VM) Cut(ctx context.Context) error {
	err := v.hv.Kill(ctx, v.name)
	if errors.Is(err, hypervisor.ErrNotFound) || errors.Is(err, hypervisor.ErrNotRunning) {
		err = nil
	}
	v.note(err)
	return err
}

// Running tells whether the machine has a process.
func (v *VM) Running(ctx context.Context) bool {
	s, err := v.hv.Status(ctx, v.name)
	return err == nil && s.State != hypervisor.Stopped && s.State != hypervisor.Crashed
}

// Hypervisor gives what else can be asked of the machine, and its name there.
func (v *VM) Hypervisor() (hypervisor.Hypervisor, string) { return v.hv, v.name }

func (v *VM) note(err error) {
	v.mu.Lock()
	v.failed = err
	v.mu.Unlock()
}

// Condition says why the machine is not as wanted; nil if it is.
func (v *VM) Condition() *api.Condition {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed == nil {
		return nil
	}
	return &api.Condition{Code: "VirtualMachineFailed", Severity: api.Critical, Message: v.failed.Error(), Impacts: "the machine does not run"}
}
