# The everyday commands. Each works from a clean checkout.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help run test simulate planted fuzz lint bench bench-load deps test-deps bench-deps

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The development profile: without link-time optimisation it is built in a fraction of the time, and
# to try things it is fast enough. What is measured or shipped is built with --release.
run: deps ## build and run on config.toml, that is, on the sandbox
	$(CARGO) run -- run --config config.toml

# Documentation tests come first, so that the summary of all the others is what one sees at the end.
test: test-deps ## all tests
	$(CARGO) test --doc
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --no-fail-fast; \
	else \
		set -x; $(CARGO) test --no-fail-fast --lib --bins --tests; \
	fi

# Optimised, so that seeds that take hours take minutes, and in a directory of its own, so that nothing
# else is built anew. One that fails is printed, and BEARERD_SEED runs it again.
SEEDS ?= 10000
SIMULATE = CARGO_PROFILE_DEV_OPT_LEVEL=2 CARGO_TARGET_DIR=target/simulate BEARERD_SEEDS=$(SEEDS) $(CARGO) test --lib
simulate: test-deps ## one refresher, then several, against SEEDS seeds of everything that can go wrong
	$(SIMULATE) credential::simulation::simulation -- --nocapture
	$(SIMULATE) credential::replicas::replicas -- --nocapture

planted: test-deps ## whether the simulations find the faults of tests/planted
	tests/planted.sh

# The stable compiler, told that what the fuzzer needs of it may be used. bearerd has no unsafe code,
# so the time that the sanitizers take is better spent on more inputs; SANITIZER=address looks at
# the libraries too. What is found to be of interest stays in the target directory.
FUZZ ?= request
SECONDS ?= 60
SANITIZER ?= none
FUZZ_DIR = tests/fuzz
FUZZ_OUT = $(FUZZ_DIR)/target/corpus/$(FUZZ)
fuzz: deps ## FUZZ=envelope|answer|config|path|request for SECONDS=60
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	@mkdir -p $(FUZZ_OUT)
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir $(FUZZ_DIR) --sanitizer $(SANITIZER) $(FUZZ) \
		$(FUZZ_OUT) $(FUZZ_DIR)/corpus/$(FUZZ) -- $(if $(wildcard $(FUZZ_DIR)/$(FUZZ).dict),-dict=$(FUZZ_DIR)/$(FUZZ).dict) \
		-max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1

lint: deps ## formatting, clippy and rustdoc; every warning is an error
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	cd $(FUZZ_DIR) && $(CARGO) fmt --check && RUSTC_BOOTSTRAP=1 $(CARGO) clippy -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

# Brief: enough to see a change by a tenth. For more say `cargo bench --bench NAME`.
bench: deps ## what the token, a replay and the envelope cost
	$(CARGO) bench --bench cell --bench envelope --bench replay -- \
		--warm-up-time 0.5 --measurement-time 2 --sample-size 20

# A part of it, without writing anything: `cargo bench --bench load -- --workload get --rounds 3`.
bench-load: bench-deps ## the whole gateway under load beside nginx, HAProxy and Envoy: docs/load.md, docs/load.svg
	$(CARGO) bench --bench load -- --svg docs/load.svg --markdown docs/load.md

deps: ## install what a build needs and is not there
	@tests/setup.sh

test-deps: ## install what the tests need and is not there
	@tests/setup.sh test

bench-deps: ## install the peers of bench-load that are not there and can be had
	@tests/setup.sh bench
