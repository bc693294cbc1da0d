# Every Go command uses this tag: the Opus library is used without libopusfile.
TAGS := -tags nolibopusfile
GO   := go
LINT := $(GO) tool -modfile=tools/go.mod golangci-lint

.DEFAULT_GOAL := help
.PHONY: help build run test check fmt fuzz bench deps test-deps

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

deps: ## install the system packages that the build needs (libopus-dev, pkg-config)
	@scripts/install build

test-deps: ## install the system packages that the tests need
	@scripts/install test

build: deps ## build bin/tandem
	@$(GO) build $(TAGS) -o bin/tandem ./cmd/tandem

run: build ## build and run the gateway with a demo account and the lab trunk
	@exec bin/tandem serve --demo

check: deps ## format, vet, lint, tidy, architecture: fast and static
	@$(GO) vet $(TAGS) ./...
	@$(LINT) run ./...
	@$(LINT) fmt --diff ./...
	@$(GO) mod tidy -diff
	@$(GO) test $(TAGS) -run 'TestArchitecture' ./test

fmt: ## format the code
	@$(LINT) fmt ./...

test: test-deps ## every test: unit, databases, SIP, media, browsers
	@scripts/test

fuzz: deps ## run every fuzz target for a bounded time (FUZZTIME=20s each)
	@scripts/fuzz

bench: build ## the figures of docs/performance.md, as ratios from one run
	-@scripts/install bench
	@scripts/bench
