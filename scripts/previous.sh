#!/usr/bin/env bash
# Builds the program of the release before this one, from the git history, and prints its path.
# Which commit that is stands in scripts/previous-version; RELEASE_FROM names another one.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git rev-parse --verify --quiet "${RELEASE_FROM:-$(cat scripts/previous-version)}^{commit}") ||
  { echo "previous.sh: ${RELEASE_FROM:-$(cat scripts/previous-version)}: no such commit here; fetch the whole history" >&2; exit 1; }
program=$PWD/.cache/previous/understudy-$commit
if [ ! -x "$program" ]; then
  source=$(mktemp -d)
  trap 'rm -rf "$source"' EXIT
  git archive "$commit" | tar -x -C "$source"
  mkdir -p "${program%/*}"
  (cd "$source" && go build -ldflags "-X main.version=$(git -C "$OLDPWD" describe --tags --always "$commit")" -o "$program" ./cmd/understudy)
fi
echo "$program"
