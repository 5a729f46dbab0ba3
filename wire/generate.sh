#!/bin/sh
# Writes the .pb.go files from wire.proto and replication.proto. Needs Go, and protoc (Debian: protobuf-compiler), which is
# installed if it is missing; the plugins are built at the versions named here. Run by `go generate ./wire`, from any directory.
set -eu
command -v protoc >/dev/null || apt-get install -y -qq --no-install-recommends protobuf-compiler >/dev/null
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN=$bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
PATH=$bin:$PATH protoc --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative wire/wire.proto wire/replication.proto
