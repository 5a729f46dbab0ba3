# Understudy. `make demo` and `make test` set up everything they need on a fresh Debian machine (as root).
SHELL       := /bin/bash
.DEFAULT_GOAL := help
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -X main.version=$(VERSION)
SEEDS       ?= 10000
SOAK        ?= 60m
# What one clone has compiled, another finds in the cache; and no program names the directory that it was built in.
export GOFLAGS += -trimpath
TOOL        := $(GO) tool -modfile=tools/go.mod

.PHONY: help deps build demo test check sim soak bench docs generate clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what the project needs: Debian packages and Go modules
	@scripts/deps.sh

build: ## write bin/understudy
	@mkdir -p bin
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/understudy ./cmd/understudy

demo: deps build ## set up, then fail an appliance pair over, and rehearse a machine's recovery
	bin/understudy lab run nva-switch
	bin/understudy lab run drill --rounds 1

test: deps build ## set up, then run every test with the race detector, and short forms of sim and soak
	scripts/test.sh

check: deps ## formatting, vet, staticcheck and the layer rules, then make test
	@test -z "$$(gofmt -l $$(git ls-files '*.go' ':!*.pb.go'))" || { echo "not gofmt'ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(MAKE) test

sim: ## simulate the control plane: make sim SEEDS=10000
	scripts/sim.sh $(SEEDS)

soak: deps build ## long runs: an hour under load, full counts
	SOAK=$(SOAK) scripts/soak.sh

bench: deps build ## figures beside the peers and beside our own parts, as ratios with intervals
	scripts/bench.sh

docs: build ## write the CLI and resource reference
	bin/understudy docs --out docs/reference

generate: ## write the protocol's Go code from wire/wire.proto
	$(GO) generate ./wire

clean: ## remove what was built
	rm -rf bin
