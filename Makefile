# What people type. `make` alone lists it.

CARGO ?= cargo
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: fairness help demo test lint fmt docs bench figures fuzz deny handlers setup clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## watch a table and its vectors stay in step; KEEP=1 leaves it running to play with
	@$(CARGO) build
	@$(CARGO) run --quiet -- demo $(if $(KEEP),--keep)

test: lint docs ## everything that CI runs: format, lints, docs and all tests; needs no service
	$(CARGO) test --workspace

lint: ## format check, and clippy without a single warning
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings

fmt: ## format all Rust code
	$(CARGO) fmt --all

docs: ## the API's documentation, without a broken link
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --workspace --no-deps

bench: setup ## the whole path against pg_recvlogical on the same log; a release build, some minutes
	@$(CARGO) bench --bench bench

figures: ## what handlers cost in each language, and the sandbox; a release build, some minutes
	@$(CARGO) bench --bench figures

fairness: ## one tenant that spins beside nine that do not: shares of CPU time and latency
	$(CARGO) test --test it fairness_table -- --ignored --nocapture

fuzz: ## mutate streams against the decoder for FUZZ_SECONDS; needs a C++ compiler, no nightly
	@mkdir -p tests/fuzz/target/corpus
	cd tests/fuzz && $(CARGO) run --release --bin decode -- -max_total_time=$(FUZZ_SECONDS) target/corpus corpus/decode

setup: ## fetch a private Postgres with pgvector for tests and demo; nothing is installed system-wide
	@tests/support/get-postgres.sh 18

handlers: ## build the example handlers into their checked-in components
	plugins/build.sh --save documents-rust

deny: ## licences, advisories and bans of the dependencies; needs cargo-deny
	$(CARGO) deny check

clean: ## remove everything that was built or fetched into target/
	$(CARGO) clean
