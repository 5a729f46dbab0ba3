package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/hypervisor/guest/workload"
)

// debianDisk is the smallest root disk of the Debian guest, in bytes.
const debianDisk = 2 << 30

// debianReady tells on the serial port when PostgreSQL answers.
const debianReady = `[Unit]
Description=Tell that PostgreSQL answers
After=postgresql.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'until pg_isready -q; do sleep 0.2; done; echo "UNDERSTUDY-GUEST READY" >/dev/ttyS0'
[Install]
WantedBy=multi-user.target
`

// BuildDebian writes a root disk of Debian with systemd, PostgreSQL and QEMU's guest agent, from the tree that `scripts/guest.sh debian`
// made. PostgreSQL listens on all addresses and trusts everybody: the disk is for networks of the lab only. Of the settings, Hostname, the
// first address and Gateway are used. Run as root, so that files keep their owners.
func (k Kit) BuildDebian(ctx context.Context, r Root) error {
	if r.Size < debianDisk || r.Size%(1<<20) != 0 {
		return fmt.Errorf("size %d: want a multiple of 1 MiB, at least 2 GiB", r.Size)
	}
	base := filepath.Join(k.Cache, "debian")
	if _, err := os.Stat(filepath.Join(base, "etc/understudy-guest")); err != nil {
		return fmt.Errorf("debian guest: %w; run scripts/guest.sh debian", err)
	}
	// Beside the original, whose files are linked and not copied.
	work, err := os.MkdirTemp(k.Cache, "tree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tree := filepath.Join(work, "root")
	if err := run(ctx, "cp", "-al", base, tree); err != nil {
		return fmt.Errorf("debian guest: %w", err)
	}
	if err := errors.Join(k.layBoot(tree), layDebian(tree, r.Settings)); err != nil {
		return fmt.Errorf("debian guest: %w", err)
	}
	return k.buildDisk(ctx, r.Path, tree, r.Size, r.KernelArgs+" net.ifnames=0")
}

// layDebian configures the tree. Every file is removed before it is written: the original shares its content.
func layDebian(tree string, s workload.Settings) error {
	address := "dhcp"
	if len(s.Addresses) > 0 {
		address = s.Addresses[0]
	}
	network := "[Match]\nName=eth0\n[Network]\n"
	if address == "dhcp" {
		network += "DHCP=yes\n"
	} else {
		network += "Address=" + address + "\n"
	}
	if s.Gateway != "" {
		network += "Gateway=" + s.Gateway + "\n"
	}
	hba, err := filepath.Glob(filepath.Join(tree, "etc/postgresql/*/main/pg_hba.conf"))
	if err != nil || len(hba) != 1 {
		return fmt.Errorf("PostgreSQL in the tree: found %d clusters, want 1; remove .cache/guest/debian and run scripts/guest.sh debian again", len(hba))
	}
	wants := filepath.Join(tree, "etc/systemd/system/multi-user.target.wants")
	return errors.Join(
		replace(tree, "etc/hostname", s.Hostname+"\n"),
		replace(tree, "etc/fstab", "/dev/vda1 / ext4 rw,discard 0 1\n"),
		replace(tree, "etc/systemd/network/10-eth0.network", network),
		replace(tree, "etc/systemd/system/understudy-ready.service", debianReady),
		link(wants, "systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service"),
		link(wants, "understudy-ready.service", "/etc/systemd/system/understudy-ready.service"),
		keepOwner(hba[0], "local all all trust\nhost all all all trust\nlocal replication all trust\n"),
		keepOwner(filepath.Join(filepath.Dir(hba[0]), "conf.d/understudy.conf"), "listen_addresses = '*'\n"),
	)
}

func replace(tree, name, content string) error {
	path := filepath.Join(tree, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// keepOwner replaces a file by another of its directory's owner.
func keepOwner(path, content string) error {
	if err := replace("/", path, content); err != nil {
		return err
	}
	var dir unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &dir); err != nil {
		return err
	}
	return os.Chown(path, int(dir.Uid), int(dir.Gid))
}

func link(dir, name, target string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := os.Symlink(target, filepath.Join(dir, name))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}
