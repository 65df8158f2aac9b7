# One command each, the same for people and for CI. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CARGO ?= cargo
# A stable toolchain takes the flags of sanitizers and coverage only so.
UNSTABLE := RUSTC_BOOTSTRAP=1

.PHONY: help demo pictures test test-python test-rust test-versions test-sdk test-interop test-interop-http test-interop-progress test-conformance test-hostile bench lint build fuzz loom states simulate sanitize clean

help:
	@echo "make demo           a gateway before real servers: clients at once, a cancel from turnout top, a kill, a reload"
	@echo "make pictures       the pictures of the docs: turnout top, and the page where Chromium is"
	@echo "make test           the Rust and the Python tests"
	@echo "make test-versions  the Python tests on every interpreter from 3.10 that is found"
	@echo "make test-sdk       the official SDK's own tests, on turnout's dispatcher and through a relay over HTTP"
	@echo "make test-interop   real clients by real servers, directly against through a relay (needs Node.js)"
	@echo "make test-interop-http  the same with the servers over HTTP"
	@echo "make test-interop-progress  how much progress clients on the TypeScript SDK get (needs Node.js)"
	@echo "make test-conformance  the official conformance suite by a server, alone and behind a relay, and a client over HTTP (needs Node.js 22)"
	@echo "make test-hostile   clients of HTTP that break the rules, in great numbers"
	@echo "make bench          the figures, side by side with others (benches/README.md)"
	@echo "make lint           formatters, linters, types, stubs; warnings are errors"
	@echo "make fuzz           coverage-guided fuzzing, FUZZ_SECONDS a target"
	@echo "make loom           the model checker on the tables and the notify flag"
	@echo "make states         the state machines over the public API, longer and elsewhere each time"
	@echo "make simulate       the relay under RELAY_SCHEDULES seeded schedules (a million), and as many of streams: nothing crosses"
	@echo "make sanitize       the core's tests under the address and thread sanitizers"

# ---- what is needed ----

.PHONY: need
need:
	@command -v $(PYTHON) >/dev/null || { echo "turnout: $(PYTHON) is missing; install Python 3.10 or later, or set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "turnout: $(PYTHON) is too old; Python 3.10 or later is needed, set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "turnout: $(PYTHON) has no venv module; install your system's python3-venv package"; exit 1; }
	@command -v $(CARGO) >/dev/null || { echo "turnout: cargo is missing; install Rust 1.88 or later"; exit 1; }

$(BIN)/python: | need
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

# The environment is complete when this stamp is newer than what it was made of.
$(VENV)/.tools: pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

SOURCES := $(shell find rust/core/src rust/http/src rust/python/src -name '*.rs') rust/python/build.rs python/turnout/_native.pyi Cargo.toml Cargo.lock rust/core/Cargo.toml rust/http/Cargo.toml rust/python/Cargo.toml pyproject.toml

$(VENV)/.built: $(SOURCES) $(VENV)/.tools
	@echo "turnout: building the native part"
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet
	@touch $@

build: $(VENV)/.built

# ---- what it does ----

demo: $(VENV)/.built
	@$(BIN)/python examples/demo.py

pictures: $(VENV)/.built
	@$(BIN)/python tests/control/pictures.py

# ---- whether it works ----

test: test-rust test-python

test-rust: | need
	$(CARGO) test --quiet --package turnout-core --package turnout-http
	CARGO_TARGET_DIR=target/fuzz $(CARGO) test --quiet --manifest-path rust/fuzz/Cargo.toml --lib --tests

.PHONY: schemas
schemas: $(VENV)/.tools
	@$(BIN)/python tests/kit/schemas.py || echo "turnout: the protocol's schemas could not be fetched; messages are not checked by them"

test-python: $(VENV)/.built schemas
	$(BIN)/python -m pytest --numprocesses auto

test-versions: schemas
	@PYTHON=$(PYTHON) sh tests/versions.sh

test-sdk: $(VENV)/.built
	$(BIN)/python tests/sdk/run.py

test-interop: $(VENV)/.built
	$(BIN)/python tests/interop/run.py --upstreams stdio

test-interop-http: $(VENV)/.built
	$(BIN)/python tests/interop/run.py --upstreams http

test-interop-progress: $(VENV)/.built
	$(BIN)/python tests/interop/progress/count.py

# The numbers of a bad day: thousands of connections, a million requests; it shows how long others waited.
test-hostile: $(VENV)/.built
	HTTP_HOSTILE=full $(BIN)/python -m pytest tests/http/test_hostile_http.py tests/http/test_real_clients.py -rP

test-conformance: $(VENV)/.built
	$(BIN)/python tests/conformance/run.py

# ---- how fast ----

bench: $(VENV)/.built
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	$(CARGO) bench --package turnout-core
	@command -v valgrind >/dev/null && $(BIN)/python -m benches.instructions || echo "turnout: valgrind is missing; instructions are not counted"
	$(BIN)/python -m benches.report

# ---- how clean ----

lint: $(VENV)/.built
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny rustdoc::broken_intra_doc_links --allow rustdoc::private_intra_doc_links" \
		$(CARGO) doc --quiet --no-deps --document-private-items --package turnout-core --package turnout-http --package turnout-python --lib
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tests/ledger/imports.py
	$(BIN)/python -m mypy.stubtest turnout._native --allowlist tests/stubtest-allowlist.txt

# ---- how sound ----

FUZZ_SECONDS ?= 60
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# What libFuzzer needs to see its way; the same as `cargo fuzz` passes.
COVERAGE := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions

fuzz: | need
	@for target in scanner framing connection events crossing http exchanges; do \
		mkdir -p target/fuzz/found/$$target && \
		$(UNSTABLE) RUSTFLAGS="$(COVERAGE)" CARGO_TARGET_DIR=target/fuzz $(CARGO) run --quiet --release \
			--manifest-path rust/fuzz/Cargo.toml --features fuzzer --bin fuzz_$$target --target $(HOST) -- \
			target/fuzz/found/$$target rust/fuzz/corpus/$$target -max_len=4096 -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

loom: | need
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom $(CARGO) test --quiet --release --package turnout-core --lib models

states: $(VENV)/.built
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/state/test_machine.py

RELAY_SCHEDULES ?= 1000000

simulate: | need
	RELAY_SCHEDULES=$(RELAY_SCHEDULES) STREAM_SCHEDULES=$(RELAY_SCHEDULES) $(CARGO) test --quiet --release \
		--package turnout-core --test core -- relay_simulation:: dying_streams:: called_streams:: --nocapture

# Under the sanitizers a schedule costs ten times as much; what they look for does not need as many.
FEWER := RELAY_SCHEDULES=2000 STREAM_SCHEDULES=500 STRESS_ROUNDS=2000 PROPTEST_CASES=200
RUST_SRC = $(wildcard $(shell rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock)
# With the standard library's sources it is instrumented, too; without them, what it does inside is left out.
THREAD = $(if $(RUST_SRC),-Zsanitizer=thread,-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer)
THREAD_STD = $(if $(RUST_SRC),-Zbuild-std)

sanitize: | need
	$(FEWER) $(UNSTABLE) RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/address \
		$(CARGO) test --quiet --target $(HOST) --package turnout-core --lib --tests
	$(FEWER) $(UNSTABLE) RUSTFLAGS="$(THREAD)" CARGO_TARGET_DIR=target/thread \
		TSAN_OPTIONS="$(if $(RUST_SRC),,suppressions=$(CURDIR)/rust/core/tests/threads.supp)" \
		$(CARGO) test --quiet --target $(HOST) $(THREAD_STD) --package turnout-core --test core threads::
	@echo "turnout: the address sanitizer found nothing in the core's tests;"
	@echo "turnout: the thread sanitizer found nothing in its threads, the standard library $(if $(RUST_SRC),included,left out (rustup component add rust-src includes it))"

clean:
	rm -rf $(VENV) target dist .sdk .bench
