#!/usr/bin/env bash
# Brings what guests are built from into .cache/guest: Debian's cloud kernel, unpacked and not installed. Does nothing where it is
# there already. `scripts/guest.sh debian` also makes the tree of the Debian guest with PostgreSQL that the soak boots.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/.cache/guest
mkdir -p "$cache"

# kernel: a package as it is, next to vmlinuz and the modules that a guest under QEMU needs.
if [ ! -e "$cache/kernel/vmlinuz" ]; then
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/{print $2; exit}')
  if [ -z "$package" ]; then
    apt-get update -qq
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/{print $2; exit}')
  fi
  [ -n "$package" ] || { echo "scripts/guest.sh: apt knows no package linux-image-cloud-amd64" >&2; exit 1; }
  echo "fetching: $package"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && apt-get download -q "$package" >/dev/null 2>&1) || { echo "scripts/guest.sh: cannot download $package" >&2; exit 1; }
  dpkg -x "$work"/*.deb "$work/x"
  mkdir -p "$work/kernel/modules"
  cp "$work"/x/boot/vmlinuz-* "$work/kernel/vmlinuz"
  # The modules that need others come after them: the guest loads them in the order of this list.
  for m in drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci_legacy_dev \
    drivers/virtio/virtio_pci drivers/block/virtio_blk net/core/failover drivers/net/net_failover drivers/net/virtio_net \
    drivers/char/virtio_console drivers/acpi/button drivers/input/evdev; do
    cp "$work"/x/lib/modules/*/kernel/$m.ko "$work/kernel/modules/"
    basename $m >> "$work/kernel/modules/order"
  done
  ls "$work/x/lib/modules" > "$work/kernel/version"
  rm -rf "$cache/kernel"
  mv "$work/kernel" "$cache/kernel"
fi

# The Debian guest: a tree that the disk builder makes a disk of. 2 to 3 minutes.
if [ "${1:-}" = debian ] && [ ! -e "$cache/debian/etc/understudy-guest" ]; then
  [ "$(id -u)" = 0 ] || { echo "scripts/guest.sh debian: needs root, for debootstrap" >&2; exit 1; }
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -1)
  rm -rf "$cache/debian.new"
  debootstrap --variant=minbase --include=systemd-sysv,udev,dbus,kmod,iproute2,ifupdown,isc-dhcp-client,postgresql,postgresql-contrib,qemu-guest-agent \
    bookworm "$cache/debian.new" "${mirror:-http://deb.debian.org/debian}" >"$cache/debian.log" 2>&1 ||
    { tail -5 "$cache/debian.log" >&2; exit 1; }
  touch "$cache/debian.new/etc/understudy-guest"
  rm -rf "$cache/debian"
  mv "$cache/debian.new" "$cache/debian"
fi
