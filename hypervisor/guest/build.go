package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/understudy-ha/understudy/hypervisor/guest/workload"
)

// Root is a root disk to build.
type Root struct {
	// Path of the raw image; a file that is there is replaced.
	Path string
	// Size in bytes, a multiple of 1 MiB, at least 64 MiB. The file is sparse.
	Size int64
	// Settings of the workload.
	Settings workload.Settings
	// KernelArgs are added to the kernel's command line.
	KernelArgs string
}

// MinSize of a root disk, in bytes.
const MinSize = 64 << 20

// dhcpScript is what busybox's DHCP client runs.
const dhcpScript = `#!/bin/busybox sh
b=/bin/busybox
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
$b ip addr flush dev $interface
$b ip addr add $ip/${mask:-24} dev $interface
for r in $router; do $b ip route add default via $r dev $interface; break; done
exit 0
`

// BuildRoot writes a root disk that boots by BIOS, says so on the serial port and serves HTTP on port 80.
func (k Kit) BuildRoot(ctx context.Context, r Root) error {
	if r.Size < MinSize || r.Size%(1<<20) != 0 || r.Size > 1<<40 {
		return fmt.Errorf("size %d: want a multiple of 1 MiB, 64 MiB to 1 TiB", r.Size)
	}
	tree, err := os.MkdirTemp("", "understudy-guest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	if err := k.layTree(tree, r.Settings); err != nil {
		return fmt.Errorf("build guest %s: %w", r.Settings.Hostname, err)
	}
	if err := k.buildDisk(ctx, r.Path, tree, r.Size, r.KernelArgs); err != nil {
		return fmt.Errorf("build guest %s: %w", r.Settings.Hostname, err)
	}
	return nil
}

// layTree makes the root's directories and files.
func (k Kit) layTree(tree string, s workload.Settings) error {
	for _, d := range []string{"bin", "boot", "data", "dev", "etc", "proc", "run", "sbin", "sys", "tmp"} {
		if err := os.Mkdir(filepath.Join(tree, d), 0o755); err != nil {
			return err
		}
	}
	settings, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		k.layBoot(tree),
		copyFile(filepath.Join(tree, "bin/busybox"), k.Busybox, 0o755),
		copyFile(filepath.Join(tree, "sbin/init"), k.Program, 0o755),
		os.WriteFile(filepath.Join(tree, "etc/udhcpc.sh"), []byte(dhcpScript), 0o755),
		os.WriteFile(filepath.Join(tree, workload.SettingsPath), append(settings, '\n'), 0o644),
	)
}

// layBoot puts kernel and initramfs where grub looks for them.
func (k Kit) layBoot(tree string) error {
	initrd, err := k.initramfs()
	if err != nil {
		return err
	}
	return errors.Join(
		copyFile(filepath.Join(tree, "boot/vmlinuz"), k.Kernel, 0o644),
		os.WriteFile(filepath.Join(tree, "boot/initrd"), initrd, 0o644))
}

// buildDisk makes a sparse bootable disk of a tree. It appears whole or not at all.
func (k Kit) buildDisk(ctx context.Context, path, tree string, size int64, kernelArgs string) error {
	tmp := path + ".tmp"
	defer os.Remove(tmp)
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	err = run(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", "0", "-d", tree,
		"-E", fmt.Sprintf("offset=%d,root_owner=0:0", partitionStart), tmp, fmt.Sprintf("%dk", (size-partitionStart)/1024))
	if err != nil {
		return err
	}
	if err := k.writeBoot(ctx, f, size, kernelArgs); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// BuildData writes a sparse data disk of size bytes, which the guest mounts at /label: "data" takes the records instead of the root
// disk, every other gets each record too.
func BuildData(ctx context.Context, path, label string, size int64) error {
	if label == "" || label == "root" || len(label) > 16 {
		return fmt.Errorf("label %q: want 1 to 16 letters, and not root", label)
	}
	tmp := path + ".tmp"
	defer os.Remove(tmp)
	if err := os.WriteFile(tmp, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(tmp, size); err != nil {
		return err
	}
	if err := run(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-m", "0", tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func copyFile(to, from string, perm os.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
