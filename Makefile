# `make` alone says what there is. What is missing from Debian is installed on the way (.ci/debian).
DEMO ?= bank
TARGET := $(or $(CARGO_TARGET_DIR),target)
BENCH_TARGET := $(or $(CARGO_TARGET_DIR),bench/target)
FUZZ_TARGETS ?= configuration expression front path record token
FUZZ_SECONDS ?= 60

.PHONY: help demo test lint bench bench-rules bench-tokens soak fuzz native components

help:
	@echo 'make demo [DEMO=shop]   build and run everything in one process, with requests to try; Ctrl-C ends it'
	@echo 'make test               format, lints, tests, documentation: what has to pass'
	@echo 'make lint               format and lints alone'
	@echo 'make bench [BENCH=…]    requests/s and CPU beside nginx and a bare Pingora; BENCH=--help for options'
	@echo 'make soak [SOAK=…]      ten reloads a second under 500 requests/s, and what becomes of memory; SOAK=--help'
	@echo 'make bench-rules        what judging policies costs, in nanoseconds; BENCH=… chooses among them'
	@echo 'make bench-tokens       what verifying a token costs beside the crypto library alone, in microseconds'
	@echo 'make fuzz                hostile input for a minute each; FUZZ_SECONDS=… for longer, FUZZ_TARGETS=… for some'

# The development build: half as long to wait for as the release build, and shared with the tests. The trap keeps make
# silent when Ctrl-C ends the demo.
demo: native
	@cargo build --locked
	@trap : INT; cargo run --locked --quiet -- demo $(DEMO) || { status=$$?; test $$status -eq 130 || exit $$status; }

test: lint
	@.ci/debian promtool=prometheus systemd-analyze=systemd node=nodejs npm openssl curl h2load=nghttp2-client slowhttptest
	@if cargo nextest --version >/dev/null 2>&1; \
	then set -x; cargo nextest run --locked --no-fail-fast; \
	else set -x; cargo test --locked --no-fail-fast --tests; fi
	cargo test --locked --doc
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps

lint: native components
	cargo fmt --check
	cargo fmt --check --manifest-path bench/Cargo.toml
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --manifest-path bench/Cargo.toml --target-dir $(TARGET) -- -D warnings
	cargo clippy --locked --no-default-features --manifest-path tests/fuzz/Cargo.toml --target-dir $(TARGET) -- -D warnings

bench: native
	@.ci/debian nginx wrk
	cargo build --locked --release
	cargo build --locked --release --manifest-path bench/Cargo.toml
	@PATH="$$PATH:/usr/sbin:/sbin" $(BENCH_TARGET)/release/gwanmun-bench --gwanmun $(TARGET)/release/gwanmun $(BENCH)
	@$(BENCH_TARGET)/release/gwanmun-bench overhead --gwanmun $(TARGET)/release/gwanmun
	@$(BENCH_TARGET)/release/gwanmun-bench hold --gwanmun $(TARGET)/release/gwanmun

soak: native
	cargo build --locked --release
	cargo build --locked --release --manifest-path bench/Cargo.toml
	@$(BENCH_TARGET)/release/gwanmun-bench soak --gwanmun $(TARGET)/release/gwanmun $(SOAK)

bench-rules: native
	cargo bench --locked --manifest-path bench/Cargo.toml --bench rules -- $(BENCH)

bench-tokens: native
	cargo bench --locked --manifest-path bench/Cargo.toml --bench tokens -- $(BENCH)

# cargo-fuzz asks the compiler for coverage and AddressSanitizer, which stable has too and only RUSTC_BOOTSTRAP opens.
# What libFuzzer learns stays in tests/fuzz/corpus, and an input that fails in tests/fuzz/artifacts.
fuzz: native
	@.ci/debian g++
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	cargo fetch --locked --manifest-path tests/fuzz/Cargo.toml
	@set -e; for target in $(FUZZ_TARGETS); do \
	  mkdir -p tests/fuzz/corpus/$$target; \
	  (set -x; RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz $$target tests/fuzz/corpus/$$target \
	    tests/fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1); \
	done

# zlib-ng, which Pingora's compression is built on, is built with cmake.
native:
	@.ci/debian cmake

components:
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
