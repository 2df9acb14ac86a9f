# Every task of the project. `make` lists them.
#
# Each version of Python has its own virtual environment, `.venv-<version>`, made on first need with the tools of
# requirements-dev.txt and renewed when that file changes. The package under test is always an installed wheel, built in
# release mode and built anew only when a source has changed.

PYTHON ?= python3

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Where rustup puts cargo, for a shell that was open before.
export PATH := $(PATH):$(HOME)/.cargo/bin

# ---- what is there, and what to say when it is not --------------------------------------------------------------------

# "<version> <verdict>"; nothing when it does not run. Written so that Python 2 understands it too.
PROBE := import sys; old = sys.version_info < (3, 10); \
	spec = old or __import__("importlib.util").util.find_spec("ensurepip"); \
	free = "t" if "t" in getattr(sys, "abiflags", "") else ""; \
	print("%d.%d%s %s" % (sys.version_info[0], sys.version_info[1], free, "old" if old else "ok" if spec else "bare"))

FOUND := $(shell $(PYTHON) -c '$(PROBE)' 2>/dev/null || true)
ifeq ($(FOUND),)
# pyenv has a python3.13 on the PATH for every version it has installed, and lets it run only if that one is switched on.
PYENV := $(shell pyenv whence $(PYTHON) 2>/dev/null | tail -n 1 || true)
ifneq ($(PYENV),)
export PYENV_VERSION := $(PYENV)
FOUND := $(shell PYENV_VERSION=$(PYENV) $(PYTHON) -c '$(PROBE)' 2>/dev/null || true)
endif
endif

VERSION := $(or $(word 1,$(FOUND)),none)
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin
TOOLS := $(VENV)/.tools
BUILT := $(VENV)/.built

ANOTHER := or name another one, as in make PYTHON=python3.12
python_trouble.old = Python 3.10 or newer is needed and $(PYTHON) is $(VERSION): install it (Debian: apt install python3 python3-venv), $(ANOTHER)
python_trouble.bare = $(PYTHON) has no venv module: install it (Debian: apt install python3-venv), $(ANOTHER)
python_trouble.ok =
python_trouble. = Python 3.10 or newer is needed and "$(PYTHON)" does not run: install it (Debian: apt install python3 python3-venv), $(ANOTHER)

RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
WITH_CARGO := PATH="$$PATH:$$HOME/.cargo/bin";
rust_trouble = $(shell $(WITH_CARGO) \
	if ! command -v cargo >/dev/null || ! have=$$(rustc --version | cut -d' ' -f2); then \
	  echo "Rust $(RUST) or newer is needed and cargo does not run: install it from https://rustup.rs"; \
	elif ! printf '%s\n' $(RUST) "$$have" | sort -V -C; then \
	  echo "Rust $(RUST) or newer is needed and rustc is $$have: run rustup update (distributions are often behind: https://rustup.rs)"; \
	elif ! command -v cc >/dev/null; then \
	  echo "Rust needs a linker and there is no cc: install a C compiler (Debian: apt install gcc)"; \
	fi)
component_trouble = $(shell $(WITH_CARGO) \
	cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || \
	  echo "rustfmt and clippy are needed: run rustup component add rustfmt clippy")

.PHONY: needs-python needs-rust needs-components
needs-python:
	@$(if $(python_trouble.$(word 2,$(FOUND))),$(error $(python_trouble.$(word 2,$(FOUND)))))
needs-rust:
	@$(if $(rust_trouble),$(error $(rust_trouble)))
needs-components: needs-rust
	@$(if $(component_trouble),$(error $(component_trouble)))

# ---- the environment and what is installed in it ----------------------------------------------------------------------

$(TOOLS): requirements-dev.txt | needs-python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Folders count as well: a file that is gone changes the time of its folder.
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src python -name __pycache__ -prune -o \
	\( -type d -o -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name py.typed \) -print)
PYTHON_SOURCES := python tests examples benches fuzz
MATURIN = $(BIN)/maturin build --release --locked --interpreter $(BIN)/python

# The stamp bears the time at which the build began: what is edited meanwhile is built the next time.
$(BUILT): $(SOURCES) $(TOOLS) | needs-python needs-rust
	@rm -rf $(VENV)/wheel && touch $@.begun
	$(MATURIN) --auditwheel skip --out $(VENV)/wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-index $(VENV)/wheel/*.whl
	@mv $@.begun $@

# Most tests wait for something, so more of them run at a time than there are cores. Those that measure the process or the machine
# run alone, behind the others.
JOBS ?= 4

# ---- tasks ------------------------------------------------------------------------------------------------------------

.PHONY: help
help:  ## List the tasks (what plain `make` does)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 picks another interpreter, 3.10 or newer (now: $(PYTHON), $(VERSION))."
	@echo "  ARGS=... reaches test-rust, test-python, test-frameworks, autobahn, bench, bench-core, fuzz-targets, soak and chaos: make test-python ARGS='-k cookies -x'"

.PHONY: run
run: $(BUILT)  ## Build everything and serve the demo; it prints its address (PORT=8080 for another port)
	@$(BIN)/python examples/demo/app.py

.PHONY: test
test: override ARGS :=
test: lint test-rust test-python test-slow  ## Everything that must pass: lint, cargo test, build, pytest, the slow ones
	@echo "make test: all of it passed, on Python $(VERSION)."

.PHONY: test-rust
test-rust: | needs-rust  ## The core's tests, which need no Python
	cargo test --locked $(ARGS)
	$(if $(ARGS),,@$(MAKE) test-models)

# Some ten seconds for as many orders in which threads may take their steps.
.PHONY: test-models
test-models: | needs-rust  ## The protocols by which threads wake each other, under many orders of their steps
	cargo test --locked --lib --features models models::

.PHONY: test-python
test-python: $(BUILT)  ## The tests of the installed wheel, but for the slow ones; with ARGS those that it names, one by one
	$(if $(ARGS),$(BIN)/pytest $(ARGS),$(BIN)/pytest -n $(JOBS) -m "not alone and not slow")
	$(if $(ARGS),,$(BIN)/pytest -m "alone and not slow")

.PHONY: autobahn
autobahn: $(BUILT)  ## All 517 cases of the Autobahn test suite, and those of compression twice; needs Python 2.7
	$(BIN)/python tests/autobahn/run.py $(ARGS)

.PHONY: lint
lint: lint-rust lint-python docs  ## Formatting, clippy, ruff, mypy, the stubs and the documentation's links, all without mercy

.PHONY: lint-rust
lint-rust: $(TOOLS) format-rust | needs-components
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --lib --profile test --features models -- -D warnings
	@# Nothing is linked here, so libFuzzer need not be built, which would take a C++ compiler.
	CUSTOM_LIBFUZZER_PATH=/libnone.a cargo clippy --locked --all-targets --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings
	cargo clippy --locked --all-targets --manifest-path benches/load/Cargo.toml --target-dir target -- -D warnings
	PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy --locked --all-targets --features python -- -D warnings

# Fast enough for each commit: nothing is built.
.PHONY: format-check format-rust
format-check: $(TOOLS) format-rust  ## Whether Rust and Python are formatted; a hook of git calls it
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
format-rust: | needs-components
	cargo fmt --check
	cargo fmt --check --manifest-path benches/load/Cargo.toml
	cargo fmt --check --manifest-path fuzz/Cargo.toml

.PHONY: lint-python
lint-python: export MYPYPATH := python
lint-python: $(BUILT)
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/mypy --strict python/socketify
	$(BIN)/mypy --strict examples tests/typing
	$(BIN)/mypy --strict tests/chaos
	$(BIN)/mypy --strict fuzz/python
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	cd benches/load && MYPYPATH=$(abspath python) $(abspath $(BIN))/mypy --config-file ../../pyproject.toml --strict *.py apps/socketify_app.py
	$(BIN)/python -m mypy.stubtest socketify._core

.PHONY: build
build: $(BUILT)  ## Install a release build into the environment, if a source has changed
	@echo "socketify is installed in $(VENV): $(BIN)/python"

.PHONY: wheel
wheel: $(TOOLS) | needs-rust  ## Make a wheel for this Python in dist/
	$(MATURIN) --out dist

# The site has tools of its own, which nothing else needs.
DOCS := .venv-docs
$(DOCS)/.tools: requirements-docs.txt | needs-python
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

.PHONY: docs
docs: $(DOCS)/.tools  ## Build the documentation in site/; a link or a name that leads nowhere is an error
	$(DOCS)/bin/zensical build --strict --clean

.PHONY: docs-serve
docs-serve: $(DOCS)/.tools  ## Serve the documentation, and build it anew when a page changes
	$(DOCS)/bin/zensical serve

.PHONY: bench
bench: $(BUILT)  ## Compare with other servers and with floors without Python; over an hour (ARGS=--quick: minutes)
	$(BIN)/python benches/load/run.py --python $(BIN)/python --date $$(date +%F) $(ARGS)

.PHONY: bench-core
bench-core: | needs-rust  ## Measure parts of the core with criterion
	cargo bench --locked $(ARGS)

.PHONY: fuzz
fuzz: fuzz-properties fuzz-targets fuzz-python  ## Random input: fuzz-properties, fuzz-targets and fuzz-python

.PHONY: fuzz-properties
fuzz-properties: | needs-rust  ## The property tests of `cargo test` with 20 000 random cases each instead of 256 (CASES=n)
	PROPTEST_CASES=$(or $(CASES),20000) cargo test --locked --tests

# The coverage that guides them needs no nightly compiler. The sanitizers do (SANITIZER=address): they watch unsafe code,
# which is in the dependencies. What a target has learnt is in fuzz/corpus, what it fails with in fuzz/artifacts.
FUZZ_VERSION := 0.13.2
FUZZ_TARGETS := $(sort $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))))
FUZZ = cargo $(if $(SANITIZER),+nightly )fuzz
fuzz_trouble = $(shell $(WITH_CARGO) \
	if ! command -v c++ >/dev/null; then \
	  echo "libFuzzer is C++ and there is no c++: install a compiler (Debian: apt install g++)"; \
	elif [[ -n "$(SANITIZER)" ]] && ! rustc +nightly --version >/dev/null 2>&1; then \
	  echo "SANITIZER needs a nightly compiler: run rustup toolchain install nightly"; \
	fi)

.PHONY: fuzz-targets
fuzz-targets: | needs-rust  ## A minute for each target in fuzz/ (SECONDS=n, ARGS=target)
	@$(if $(fuzz_trouble),$(error $(fuzz_trouble)))
	@cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked --version $(FUZZ_VERSION)
	$(FUZZ) build --sanitizer $(or $(SANITIZER),none)
	@for target in $(or $(ARGS),$(FUZZ_TARGETS)); do \
	  mkdir -p fuzz/corpus/$$target; \
	  echo "$$target"; \
	  $(FUZZ) run --sanitizer $(or $(SANITIZER),none) $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(or $(SECONDS),60) -timeout=10 -verbosity=0 -print_final_stats=1; \
	done

# Those parts that read bytes in Python. A failure prints the seed that shows it again (ARGS='--seed n').
.PHONY: fuzz-python
fuzz-python: $(BUILT)  ## A minute for the parsers that are Python: forms, multipart, cookies, types (SECONDS=n)
	$(BIN)/python fuzz/python/parsers.py --seconds $(or $(SECONDS),60) $(ARGS)

DENY_VERSION := 0.20.2
PIP_AUDIT := .venv-audit/bin/pip-audit
$(PIP_AUDIT): | needs-python
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1

.PHONY: audit
audit: $(PIP_AUDIT) | needs-rust  ## Licences and known faults of all dependencies (deny.toml); asks the databases of both languages
	@cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked --version $(DENY_VERSION)
	cargo deny --locked check
	cargo deny --locked --manifest-path fuzz/Cargo.toml --config $(CURDIR)/deny.toml check advisories sources
	$(PIP_AUDIT) --disable-pip --no-deps -r requirements-dev.txt
	$(PIP_AUDIT) --disable-pip --no-deps -r requirements-docs.txt
	$(PIP_AUDIT) --disable-pip --no-deps -r requirements-frameworks.txt

.PHONY: soak
soak: $(BUILT)  ## Millions of mixed requests, watching memory; long
	$(BIN)/python tests/soak.py $(ARGS)

.PHONY: chaos
chaos: $(BUILT)  ## Random clients against random handlers for a minute (SECONDS=n, SEED=n, ARGS=...)
	$(BIN)/python tests/chaos/run.py --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

# Four servers: with TLS and without, ended when all is calm and under load.
.PHONY: test-slow
test-slow: $(BUILT)  ## The Autobahn test suite, a browser, faults put into a server on purpose, frameworks, and a minute of chaos
	$(BIN)/pytest -m slow
	@$(MAKE) test-frameworks
	@$(MAKE) test-chaos

# The frameworks have an environment of their own, into which the wheel of the other one is installed.
FRAMEWORKS := $(VENV)-frameworks
$(FRAMEWORKS)/.tools: requirements-frameworks.txt | needs-python
	$(PYTHON) -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-frameworks.txt
	@touch $@
$(FRAMEWORKS)/.built: $(BUILT) $(FRAMEWORKS)/.tools
	$(FRAMEWORKS)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-index $(VENV)/wheel/*.whl
	@touch $@

.PHONY: test-frameworks
ifeq ($(VERSION),3.10)
test-frameworks:
	@echo "make test-frameworks: several frameworks need Python 3.11, so nothing was tested on 3.10."
else
test-frameworks: $(FRAMEWORKS)/.built  ## Applications of FastAPI, Django, Flask and others, by the command line (ARGS=--peers: by other servers)
	$(FRAMEWORKS)/bin/python -m pytest tests/frameworks -n 2 --dist loadfile $(ARGS)
endif

.PHONY: test-chaos
test-chaos: $(BUILT)
	$(BIN)/python tests/chaos/run.py --seconds 60 --round 15 --seed 0

.PHONY: clean
clean:  ## Remove everything that these tasks have made
	rm -rf .venv-[0-9]* .venv-audit .venv-autobahn .venv-docs target dist site .cache .mypy_cache .ruff_cache .pytest_cache benches/.peers benches/load/target
	rm -rf fuzz/target fuzz/corpus fuzz/artifacts fuzz/coverage
	find $(PYTHON_SOURCES) -name __pycache__ -prune -exec rm -rf {} +
