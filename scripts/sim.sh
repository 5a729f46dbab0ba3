#!/usr/bin/env bash
# Simulates the control plane and the vault: clean seeds with the coverage table, then the planted defects.
# usage: sim.sh SEEDS
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-10000}
go build -o bin/simulate ./cmd/simulate
go build -tags mutants -o bin/simulate-mutants ./cmd/simulate
for world in appliances machines; do
	bin/simulate -world "$world" -seeds "$seeds"
	bin/simulate-mutants -world "$world" -mutants -seeds 1000 # stops at the first that finds it
done
go test -count=1 -timeout 0 ./vault -run '^TestSimulation$' -v -vaultseeds "$seeds"
go test -count=1 -timeout 0 -tags mutants ./vault -run '^TestEveryPlantedDefectIsFound$' -v
