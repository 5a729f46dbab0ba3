#!/usr/bin/env bash
# The machines' data path: our export beside nbdkit's, a protected disk beside a plain one, a warm recovery point beside its image,
# the pipeline beside its parts, a boot from 20 million indexed blocks beside one from 20 thousand, the cost of a point. ROUNDS rounds
# ABBA of SECONDS_EACH seconds, figures in bin/bench-NAME.json. Arguments name some of the benches alone, or are flags of cmd/bench.
# Wants a quiet machine of two cores or more, 8 GiB in /dev/shm, and 40 GiB in FAR.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- nbd capture warm pipeline boot point
go run ./cmd/bench -rounds "${ROUNDS:-9}" -seconds "${SECONDS_EACH:-5}" -far "${FAR:-/var/tmp}" -out bin "$@"
