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
# There the comparison with Redis plays what it has played before; people get other seeds each time.
export TRILITH_DIFFERENTIAL_SEEDS ?= 16609,624285,728038,166251
endif
BINARIES := $(abspath $(or $(CARGO_TARGET_DIR),target))/debug

# Of `make run`, such as: make run ARGS="--nodes 5"
ARGS ?=
# Tests that start real processes want the machine's few cores to themselves.
PROCESS_TEST_THREADS ?= 1

.PHONY: help
help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: prerequisites
prerequisites:
	@scripts/prerequisites.sh

# What tests and benchmarks use beside: a real Redis, a browser, and the clients that people have.
.PHONY: test-prerequisites
test-prerequisites:
	@scripts/prerequisites.sh tests
	@e2e/clients/prepare.sh >/dev/null

.PHONY: run
run: binaries ## Build, and start a cluster of three nodes on this machine; Ctrl-C stops it
	@printf '\nTo use it, in another terminal:\n\n    export PATH="%s:$$PATH"\n    trilith put a 1\n\n' '$(BINARIES)'
	@exec '$(BINARIES)/trilith' dev $(ARGS)

# All of them at once and never one alone: a choice of packages is a choice of their features,
# and with other features the packages below them would be built again.
.PHONY: binaries
binaries: prerequisites
	@cargo build --locked --workspace --bins

# Those that need a Kubernetes cluster are left out here: see `make e2e`.
.PHONY: test
test: binaries ## Run every test that takes this machine only
	@cargo test --locked --workspace --doc
	@cargo test --locked --workspace --lib --bins
	@$(MAKE) e2e-processes
	@$(MAKE) api

# More of it, such as: make api ARGS=200
.PHONY: api
api: binaries test-prerequisites ## Try the REST door with requests made from its own document
	@CARGO_TARGET_DIR='$(abspath $(BINARIES)/..)' scripts/schemathesis.sh $(ARGS)

# Those with Redis and its clients take two minutes on two cores; see TRILITH_DIFFERENTIAL_STEPS.
.PHONY: e2e-processes
e2e-processes: binaries test-prerequisites ## Run the scenarios with real nodes as processes on this machine
	@cargo test --locked --workspace --test '*' -- --test-threads=$(PROCESS_TEST_THREADS)

# On Kubernetes they take 30 minutes at most on two cores, once everything is built.
.PHONY: e2e
e2e: e2e-processes e2e-kubernetes ## Run all scenarios: with processes, then on a real Kubernetes cluster

.PHONY: e2e-kubernetes
e2e-kubernetes: binaries ## Run scenarios on Kubernetes, such as: make e2e-kubernetes ARGS="2 3"
	@scripts/e2e.sh $(ARGS)

.PHONY: e2e-smoke
e2e-smoke: binaries ## Run those on Kubernetes that matter most, in eight minutes
	@scripts/e2e.sh smoke

.PHONY: verify
verify: prerequisites ## Check format, lints, dependencies, generated files and the chart; changes nothing
	@cargo fmt --all --check
	@scripts/generated.sh
	@scripts/deny.sh
	@scripts/chart.sh
	@cargo clippy --locked --workspace --all-targets -- --deny warnings

.PHONY: fuzz
fuzz: prerequisites ## Feed the parsers with what nobody would write; such as: make fuzz ARGS=300
	@scripts/fuzz.sh $(ARGS)

.PHONY: fix
fix: prerequisites ## Format, and carry out what clippy proposes
	@cargo fmt --all
	@cargo clippy --fix --allow-dirty --allow-staged --workspace --all-targets
	@cargo fmt --all

.PHONY: bench
bench: binaries ## Measure three of our nodes beside three of etcd (takes Go), the doors beside Redis, what tables can do
	@bench/etcd.sh >/dev/null
	@'$(BINARIES)/trilith-bench' compare $(ARGS)
	@$(MAKE) bench-doors
	@$(MAKE) bench-tables

# Of `make bench-doors` and `make bench`, such as: make bench-doors DOORS_ARGS=--quick
DOORS_ARGS ?=

.PHONY: bench-doors
bench-doors: binaries test-prerequisites ## Measure the Redis door and REST beside one Redis
	@'$(BINARIES)/trilith-bench' doors $(DOORS_ARGS)

# Of `make bench-tables` and `make bench`, such as: make bench-tables TABLES_ARGS="--rounds 1 --seconds 1"
TABLES_ARGS ?=

.PHONY: bench-tables
bench-tables: binaries ## Measure what watches cost beside the same without them
	@'$(BINARIES)/trilith-bench' tables $(TABLES_ARGS)

# Without Docker, the programs in the images are those that are built here.
.PHONY: images
images: ## Build the images of node, operator and command line as archives
	@docker info >/dev/null 2>&1 || $(MAKE) binaries >&2
	@scripts/images.sh $(ARGS)

.PHONY: kube
kube: ## Start a Kubernetes cluster on this machine, with the images on it
	@e2e/cluster/cluster up
	@$(MAKE) images | xargs e2e/cluster/cluster load
	@e2e/cluster/cluster env
