#!/usr/bin/env bash
# Our export of a plain file beside nbdkit's, under fio: ROUNDS rounds ABBA of SECONDS_EACH seconds, figures in bin/bench-nbd.json.
set -euo pipefail
cd "$(dirname "$0")/.."
go run ./cmd/benchnbd -rounds "${ROUNDS:-9}" -seconds "${SECONDS_EACH:-5}" -out bin/bench-nbd.json
