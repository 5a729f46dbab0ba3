#!/usr/bin/env bash
# Every test with the race detector, then the lab, and beside both the short simulation and the seeded tests. Needs root: tests make
# network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "make test: needs root, to make network namespaces" >&2; exit 1; }
log=$(mktemp)
simulation=
waiting=
trap 'for p in $simulation $waiting; do kill -- -$p 2>/dev/null || true; done; rm -f "$log" "$log".*' EXIT

# The simulation only computes, by a clock of its own: it takes what the others leave idle, in a session of its own, since the kernel
# shares out time by sessions first.
setsid bash -c '{ echo 19 >/proc/self/autogroup; } 2>/dev/null; exec chrt --idle 0 scripts/sim.sh 300' >"$log" 2>&1 &
simulation=$!
go vet ./...

# -short: what plays one seed after another plays a few here, and all without the race detector, in sim.sh. Of the
# race detector's costs, two need not be: collecting garbage early where there is little of it, and the second that every process
# waits at its end, the many of a script included. What vet has seen is not vetted again.
race() { GORACE=atexit_sleep_ms=10 GOGC=400 go test -race -short -vet=off -ldflags=-w -count=1 -timeout 20m "$@"; }
# These mostly wait, for machines to boot and for retries: they run one after another beside the others.
patient='/(agent|install|server|hypervisor/guest|hypervisor/qemu)$'
mapfile -t others < <(go list ./... | grep -v '/lab$' | grep -Ev "$patient")
mapfile -t patients < <(go list ./... | grep -E "$patient")
set -m # in a process group of its own
race -p 1 "${patients[@]}" >"$log.patient" 2>&1 &
set +m
waiting=$!
race "${others[@]}"
failed=0
wait "$waiting" || failed=$?
waiting=
cat "$log.patient"
[ "$failed" = 0 ] || exit "$failed"

# The lab measures time on a real network: it runs after everything else.
go test -count=1 -timeout 40m -parallel 3 -v ./lab
echo "waiting for the simulation"
wait "$simulation" || failed=$?
simulation=
cat "$log"
exit "$failed"
