#!/usr/bin/env bash
# Every test with the race detector, then the short simulation. Needs root: tests make network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "make test: needs root, to make network namespaces" >&2; exit 1; }
go vet ./...
# The lab measures time on a real network; it runs by itself, after everything else.
mapfile -t others < <(go list ./... | grep -v '/lab$')
go test -race -count=1 -timeout 20m "${others[@]}"
go test -count=1 -timeout 40m -v ./lab
scripts/sim.sh 300
