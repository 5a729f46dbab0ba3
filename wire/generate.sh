#!/bin/sh
# Writes wire.pb.go and wire_grpc.pb.go from wire.proto. Needs protoc (Debian: protobuf-compiler) and Go; the
# plugins are built at the versions named here. Run by `go generate ./wire`, from any directory.
set -eu
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN=$bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
PATH=$bin:$PATH protoc --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative wire/wire.proto
