# `make help` lists the targets. Rust, make and a C compiler are all that they need; those that need more say so.
SHELL := /bin/bash
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
SEEDS ?= 2000

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the binary (target/release/weir)
	cargo build --release --locked -p weir

.PHONY: demo
demo: build ## Run examples/flights.yaml from the beginning, on this machine
	@$(TARGET)/release/weir run examples/flights.yaml --fresh
	@e2e/after-demo.sh $(TARGET)/release/weir

.PHONY: test
test: ## Everything that needs no cluster: format, lints, all tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --workspace --no-fail-fast

.PHONY: test-all
test-all: ## The tests with every combination and longer runs
	WEIR_TEST_ALL=1 cargo test --locked --workspace --no-fail-fast

.PHONY: sim
sim: ## Simulate the state store, the journal and whole jobs: SEEDS=n seeds each, or SEED=n to repeat one
	SEEDS=$(SEEDS) cargo test --locked --workspace --test it -- --nocapture sim::

.PHONY: sim-teeth
sim-teeth: ## Plant faults in the code, one after the other; the simulation must find each
	cargo test --locked --workspace --lib --test it -- --nocapture teeth::

.PHONY: bench
bench: build ## Rows per second, CPU time and memory of whole jobs (BENCH="case …" for some of them)
	e2e/bench/run.sh $(TARGET)/release/weir target/bench/run.json $(BENCH)

.PHONY: e2e
e2e: build ## Scenarios on a real Kubernetes and S3 server, as root on Debian (S="name …" for some of them)
	python3 e2e/harness/tests.py
	e2e/run $(S)

.PHONY: e2e-all
e2e-all: build ## All scenarios, also those that need kwok or MinIO
	python3 e2e/harness/tests.py
	e2e/run all

.PHONY: generate
generate: ## Write the generated files anew: the resource definition, its reference, Argo CD's ConfigMap and cases
	BLESS=1 cargo test --quiet --locked --workspace --lib --bins what_is_generated

.PHONY: expected
expected: ## Derive the examples' expected results with DuckDB (needs Python)
	python3 -m pip install --quiet duckdb
	python3 e2e/expected/derive.py

.PHONY: audit
audit: ## Licences, advisories and unused dependencies (installs the tools: slow)
	cargo install --quiet --locked cargo-deny cargo-machete
	cargo deny check licenses bans sources
	cargo machete
