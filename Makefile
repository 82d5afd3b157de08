# `make` alone says what there is. What is missing from Debian is installed on the way (.ci/debian).
DEMO ?= bank
TARGET := $(or $(CARGO_TARGET_DIR),target)
BENCH_TARGET := $(or $(CARGO_TARGET_DIR),bench/target)

.PHONY: help demo test lint bench native components

help:
	@echo 'make demo [DEMO=shop]   build and run everything in one process, with requests to try; Ctrl-C ends it'
	@echo 'make test               format, lints, tests, documentation: what has to pass'
	@echo 'make lint               format and lints alone'
	@echo 'make bench [BENCH=…]    requests/s and CPU beside nginx and a bare Pingora; BENCH=--help for options'

# The development build: half as long to wait for as the release build, and shared with the tests. The trap keeps make
# silent when Ctrl-C ends the demo.
demo: native
	@cargo build --locked
	@trap : INT; cargo run --locked --quiet -- demo $(DEMO) || { status=$$?; test $$status -eq 130 || exit $$status; }

test: lint
	@.ci/debian promtool=prometheus systemd-analyze=systemd
	@if cargo nextest --version >/dev/null 2>&1; \
	then set -x; cargo nextest run --locked --no-fail-fast; \
	else set -x; cargo test --locked --no-fail-fast --tests; fi
	cargo test --locked --doc
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps

lint: native components
	cargo fmt --check
	cargo fmt --check --manifest-path bench/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --manifest-path bench/Cargo.toml --target-dir $(TARGET) -- -D warnings

bench: native
	@.ci/debian nginx wrk
	cargo build --locked --release
	cargo build --locked --release --manifest-path bench/Cargo.toml
	@PATH="$$PATH:/usr/sbin:/sbin" $(BENCH_TARGET)/release/gwanmun-bench --gwanmun $(TARGET)/release/gwanmun $(BENCH)

# zlib-ng, which Pingora's compression is built on, is built with cmake.
native:
	@.ci/debian cmake

components:
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
