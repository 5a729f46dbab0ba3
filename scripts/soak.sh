#!/usr/bin/env bash
# Long runs on the real lab; full counts. SOAK=60m sets the length of the loaded run, GONE=10m that of the dead control plane.
set -euo pipefail
cd "$(dirname "$0")/.."
SOAK=${SOAK:-60m}
GONE=${GONE:-10m}
previous=$(scripts/previous.sh)
for store in etcd zookeeper; do
  bin/understudy lab run nva-switch --store $store --fault control-plane-gone --gone "$GONE" --rounds 1 --no-peers
  bin/understudy lab run nva-switch --store $store --fault leader-mid-failover,paused-leader,leader,leader-and-node,partition,both-down,rolling --no-peers
  bin/understudy lab run nva-switch --store $store --fault upgrade --from "$previous" --no-peers
done
bin/understudy lab run nva-switch --effects lease --fault upgrade --from "$previous" --no-peers
bin/understudy lab run nva-switch --effects lease --fault control-plane-gone --gone "$GONE" --rounds 1 --no-peers
bin/understudy lab run nva-soak --duration "$SOAK"
go test -count=1 -timeout 20m -run Scale ./store/etcd ./store/zookeeper
scripts/guest.sh debian
go test -tags soak -count=1 -timeout 20m -run Debian ./hypervisor/guest
bin/understudy lab run postgres --duration 5m
bin/understudy lab run drill --rounds 10
bin/understudy lab run recovery --rounds 3
bin/understudy lab run failback
# The data path: 1,000 rounds of kill -9 and every outage, then 100,000 writes that QEMU is the witness of; each stops after 40 minutes.
bin/understudy lab run path-kill --rounds 1000 --duration 40m --gone 2m
bin/understudy lab run path-oracle --rounds 100000 --duration 40m
# Prefixes of about 100,000 records under ext4, and as many under XFS, are checked by the file systems' own tools.
ORACLE_TIMES=6 go test -count=12 -timeout 60m -run 'Ext4|XFS' ./capture/oracle
