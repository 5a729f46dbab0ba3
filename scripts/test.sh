#!/usr/bin/env bash
# Every test with the race detector, then the lab, and beside it the short simulation and the seeded tests. Needs root: tests make
# network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "make test: needs root, to make network namespaces" >&2; exit 1; }
go vet ./...
mapfile -t others < <(go list ./... | grep -v '/lab$')
# -short: what plays one seed after another plays a few here, and all without the race detector, in sim.sh. Of the
# race detector's costs, two need not be: collecting garbage early where there is little of it, and the second that every process
# waits at its end, the many of a script included. What vet has seen is not vetted again.
GORACE=atexit_sleep_ms=10 GOGC=400 go test -race -short -vet=off -ldflags=-w -count=1 -timeout 20m "${others[@]}"

# The lab measures time on a real network; it runs after everything else, and mostly waits. The simulation only computes, by a
# clock of its own: it takes what the lab leaves idle, in a session of its own, since the kernel shares out time by sessions first.
log=$(mktemp)
setsid bash -c '{ echo 19 >/proc/self/autogroup; } 2>/dev/null; exec chrt --idle 0 scripts/sim.sh 300' >"$log" 2>&1 &
simulation=$!
trap 'kill -- -$simulation 2>/dev/null || true; rm -f "$log"' EXIT
go test -count=1 -timeout 40m -parallel 2 -v ./lab
echo "waiting for the simulation"
failed=0
wait "$simulation" || failed=$?
cat "$log"
exit "$failed"
