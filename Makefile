# What people type. `make` alone lists it.

CARGO ?= cargo
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: chaos fairness help demo test lint fmt docs bench bench-quick figures guard instructions fuzz deny handlers setup clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

# FAST=1 builds in minutes: the host optimised and without checks of itself, its dependencies as `cargo test` has them.
OPTIMISED = $(foreach package,profile.dev profile.dev.package.pg_walstream, \
	--config $(package).opt-level=3 --config $(package).debug-assertions=false --config $(package).overflow-checks=false)
AS_TESTED = --config 'profile.dev.package."*".debug-assertions=true' --config 'profile.dev.package."*".overflow-checks=true'
DEV = --profile dev $(OPTIMISED) $(AS_TESTED)
BENCH = $(CARGO) bench $(if $(FAST),$(DEV)) --bench bench --

bench: setup ## the whole path and its stages against yardsticks, as a table; ARMS=log,decode runs some; a release build first
	@$(BENCH) $(if $(ARMS),--arms $(ARMS))

bench-quick: setup ## the same with fewer rows and rounds: under three minutes once it is built
	@$(BENCH) --quick $(if $(ARMS),--arms $(ARMS))

figures: ## what handlers cost in each language, and what the sandbox costs
	@$(MAKE) bench ARMS=languages,sandbox

guard: setup ## how often a row makes the host allocate, and what decoding it takes; part of `make test`
	$(CARGO) test --bench bench

instructions: setup ## fails if decoding a row takes more instructions than it did; needs valgrind
	$(MAKE) bench FAST=1 ARMS='instructions --strict'

fairness: ## one tenant that spins beside nine that do not: shares of CPU time and latency
	$(CARGO) test --test it fairness_table -- --ignored --nocapture

chaos: ## N runs of random faults under load (default 10); CHAOS_SEED=… begins with a certain one
	CHAOS_RUNS=$(or $(N),10) $(CARGO) test --test it chaos::many_runs -- --ignored --nocapture

fuzz: ## mutate streams against the decoder and the reader of replication, side by side for FUZZ_SECONDS; needs a C++ compiler, no nightly
	@mkdir -p tests/fuzz/target/corpus/decode tests/fuzz/target/corpus/replication
	cd tests/fuzz && $(CARGO) build --release
	cd tests/fuzz && for target in decode replication; do \
		$(CARGO) run --quiet --release --bin $$target -- -max_total_time=$(FUZZ_SECONDS) target/corpus/$$target corpus/$$target & \
		running="$$running $$!"; \
	done; for fuzzer in $$running; do wait $$fuzzer || failed=1; done; test -z "$$failed"

setup: ## fetch a private Postgres with pgvector for tests and demo; nothing is installed system-wide
	@tests/support/get-postgres.sh 18

handlers: ## build the example handlers into their checked-in components
	plugins/build.sh --save documents-rust

deny: ## licences, advisories and bans of the dependencies; needs cargo-deny
	$(CARGO) deny check

clean: ## remove everything that was built or fetched into target/
	$(CARGO) clean
