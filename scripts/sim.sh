#!/usr/bin/env bash
# Simulates appliances, the vault and machines: clean seeds with the coverage table, and the planted defects.
# usage: sim.sh SEEDS
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-10000}
go build -o bin/simulate ./cmd/simulate
go build -tags mutants -o bin/simulate-mutants ./cmd/simulate
bin/simulate -seeds "$seeds"
bin/simulate-mutants -mutants -seeds 1000 # stops at the first that finds it
go test -count=1 -timeout 0 ./vault -run '^TestSimulation$' -v -vaultseeds "$seeds"
go test -count=1 -timeout 0 -tags mutants ./vault -run '^TestEveryPlantedDefectIsFound$' -v
bin/simulate-mutants -world machines -mutants -seeds 1000
bin/simulate -world machines -seeds "$seeds"
