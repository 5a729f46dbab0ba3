#!/usr/bin/env bash
# Simulates appliances, the vault and machines: clean seeds with the coverage table, and the planted defects.
# usage: sim.sh SEEDS
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-10000}
go build -o bin/simulate ./cmd/simulate
go build -tags mutants -o bin/simulate-mutants ./cmd/simulate

# The vault's simulation and the seeded tests of what lies under it are one thread: they run beside the others.
seeded='TestSegmentGivesEveryPrefixBack|TestCrashes|TestACutFlushForgetsNoWrite|TestPointsReadBackThroughCompactionAndPruning'
seeded+='|TestABigDiskOpensLikeASmallOne|TestGapsThatDoNotCloseLeaveFewBitmaps'
storage() {
  export GOGC=400
  go test -count=1 -timeout 0 ./journal ./volume ./vault ./capture/disk -run "^($seeded)$" &&
    go test -count=1 -timeout 0 ./vault -run '^TestSimulation$' -v -vaultseeds "$seeds" &&
    go test -count=1 -timeout 0 -tags mutants ./vault -run '^TestEveryPlantedDefectIsFound$' -v
}
log=$(mktemp)
set -m # in a process group of its own
storage >"$log" 2>&1 &
set +m
simulation=$!
trap 'kill -- "-$simulation" 2>/dev/null || true; rm -f "$log"' EXIT
for world in appliances machines; do
  bin/simulate -world $world -seeds "$seeds"
  bin/simulate-mutants -world $world -mutants -seeds 1000 # stops at the first that finds it
done
failed=0
wait "$simulation" || failed=$?
cat "$log"
exit "$failed"
