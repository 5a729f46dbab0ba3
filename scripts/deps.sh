#!/usr/bin/env bash
# Installs what building, testing and the lab need. Does nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  iproute2 iputils-ping nftables tcpdump procps   # namespaces and traffic
  keepalived conntrack conntrackd                 # the peer that the lab measures beside us; state sync of the lab's appliances
  zookeeper default-jre-headless                  # a real ensemble for store/zookeeper
  nbdkit libnbd-bin python3-libnbd qemu-utils fio # other people's ends of NBD, and its measure
  stress-ng                                       # load for the soak
  openssh-server openssh-client systemd           # agents are installed over ssh; units are verified
  qemu-system-x86 ovmf                            # the hypervisor
  grub-pc-bin grub-common e2fsprogs xfsprogs fdisk busybox-static cpio debootstrap # what guests are built with
  nodejs npm                                      # Azurite, for objstore/azblob
  git make gcc libc6-dev                          # build; the race detector needs cgo
)

missing=()
for p in "${packages[@]}"; do
  # default-jre-headless is any Java that runs ZooKeeper.
  if [ "$p" = default-jre-headless ] && command -v java >/dev/null; then continue; fi
  # Any node 18 or newer will do, wherever it is from.
  if [ "$p" = nodejs ] && command -v node >/dev/null || [ "$p" = npm ] && command -v npm >/dev/null; then continue; fi
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || { echo "make deps: needs root to install: ${missing[*]}" >&2; exit 1; }
  echo "installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Debian starts services on install; the lab starts its own.
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d.understudy && chmod +x /usr/sbin/policy-rc.d.understudy
  had=no; [ -e /usr/sbin/policy-rc.d ] && had=yes
  [ $had = yes ] || cp /usr/sbin/policy-rc.d.understudy /usr/sbin/policy-rc.d
  trap '[ $had = yes ] || rm -f /usr/sbin/policy-rc.d; rm -f /usr/sbin/policy-rc.d.understudy' EXIT
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

command -v go >/dev/null || { echo "make deps: Go 1.26 or newer is not installed; install it and put it on PATH" >&2; exit 1; }
go mod download
scripts/objectservers.sh
scripts/guest.sh
