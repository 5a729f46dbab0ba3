#!/usr/bin/env bash
# Figures beside the peers: outages against keepalived in interleaved ABBA rounds with a 95 % interval, and moves on Azure's
# simulator against their critical path and the original's serial order; then the machines' data path. ROUNDS sets the rounds.
set -euo pipefail
cd "$(dirname "$0")/.."
bin/understudy lab run nva-bench --fault node,link --rounds "${ROUNDS:-9}"
bin/understudy lab run arm-latency
go test -run '^$' -bench Txn -benchtime 300x ./store/etcd ./store/zookeeper
scripts/bench-machines.sh
