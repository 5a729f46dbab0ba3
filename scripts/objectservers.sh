#!/usr/bin/env bash
# Puts the object servers that objstore is tested against under .cache: Azurite for azblob, versitygw for s3. Quick where they are.
set -euo pipefail
cd "$(dirname "$0")/.."

azurite=3.37.0
versitygw=v1.8.0
mkdir -p .cache/npm .cache/bin

have() { [ "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' .cache/npm/node_modules/azurite/package.json 2>/dev/null)" = "$azurite" ]; }
if ! have; then
  echo "installing: azurite $azurite"
  # Alone: a package that is not to be had would take the others with it.
  npm install --prefix .cache/npm --no-audit --no-fund --loglevel=error "azurite@$azurite" >/dev/null
  have || { echo "make deps: npm did not install azurite $azurite" >&2; exit 1; }
fi

if ! go version -m .cache/bin/versitygw 2>/dev/null | grep -q "versitygw[[:space:]]$versitygw"; then
  echo "building: versitygw $versitygw"
  GOBIN="$PWD/.cache/bin" GOFLAGS= go install "github.com/versity/versitygw/cmd/versitygw@$versitygw"
fi
