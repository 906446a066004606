# Everything that is done often. `make` alone lists it.
#
# There is one profile, Cargo's dev, tuned in Cargo.toml: see docs/decisions/0002.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# CI starts from a fresh clone; what it builds outlives that. A person's build is in ./target.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/trilith/target
endif
BINARIES := $(abspath $(or $(CARGO_TARGET_DIR),target))/debug

# Of `make run`, such as: make run ARGS="--nodes 5"
ARGS ?=
# Tests that start real processes want the machine's few cores to themselves.
PROCESS_TEST_THREADS ?= 1

.PHONY: help
help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: prerequisites
prerequisites:
	@scripts/prerequisites.sh

.PHONY: run
run: binaries ## Build, and start a cluster of three nodes on this machine; Ctrl-C stops it
	@printf '\nTo use it, in another terminal:\n\n    export PATH="%s:$$PATH"\n    trilith put a 1\n\n' '$(BINARIES)'
	@exec '$(BINARIES)/trilith' dev $(ARGS)

# All of them at once and never one alone: a choice of packages is a choice of their features,
# and with other features the packages below them would be built again.
.PHONY: binaries
binaries: prerequisites
	@cargo build --locked --workspace --bins

.PHONY: test
test: binaries ## Run every test
	@cargo test --locked --workspace --doc
	@cargo test --locked --workspace --lib --bins
	@$(MAKE) e2e

.PHONY: e2e
e2e: binaries ## Run the tests that start real nodes
	@cargo test --locked --workspace --test '*' -- --test-threads=$(PROCESS_TEST_THREADS)

.PHONY: verify
verify: prerequisites ## Check format, lints, dependencies and generated files; changes nothing
	@cargo fmt --all --check
	@scripts/generated.sh
	@scripts/deny.sh
	@cargo clippy --locked --workspace --all-targets -- --deny warnings

.PHONY: fix
fix: prerequisites ## Format, and carry out what clippy proposes
	@cargo fmt --all
	@cargo clippy --fix --allow-dirty --allow-staged --workspace --all-targets
	@cargo fmt --all

.PHONY: bench
bench: binaries ## Measure three of our nodes beside three of etcd (takes Go)
	@bench/etcd.sh >/dev/null
	@'$(BINARIES)/trilith-bench' compare $(ARGS)
