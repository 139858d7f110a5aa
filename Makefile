# The front door. `make demo` and `make test` alone set up a bare machine; everything else builds on the same set-up.
#
#   make demo    the whole loop on real flights, from data to rollback
#   make test    every test, on private servers where the machine has them
#   make quick   the tests that need no server and no patience
#   make check   style, types, the order of the rooms, and what is tracked
#   make interop outside systems, each with its own package in an environment of its own (SYSTEMS="torch" chooses)
#
# PYTHON=python3.13 chooses another interpreter (3.11 to 3.13), with an environment of its own.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-demo servers libraries demo test test-twice quick interop check format bench bench-tracking bench-serving docs lock clean

# The first interpreter of a version that we test with.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo "$$name" && break; done)
VENV ?= $(if $(filter-out python3,$(notdir $(PYTHON))),.venv-$(notdir $(PYTHON)),.venv)
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

# Tests share two cores with whatever else runs there; those that share something stay on one worker (tests/sharing.py).
WORKERS ?= 2
PYTEST_OPTIONS := -n $(WORKERS) --dist loadscope
PYTEST := $(BIN)/python -m pytest $(PYTEST_OPTIONS)
QUICK := not slow and not postgres and not redis and not s3 and not browser and not fault
TESTS ?= tests
# Two workers with two OpenMP threads each would wait for each other on two cores.
test test-twice quick: export OMP_NUM_THREADS = 1
# They start many short processes: without kept bytecode each of them compiles all that it imports.
test test-twice quick demo: export PYTHONDONTWRITEBYTECODE =

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -9

# Set-up: an environment, uv inside it, the locked libraries, then this package. Each stamp is made again only when
# what it depends on has changed.

$(VENV)/.stamp-uv: requirements-uv.lock
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 was found: install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || bash .ci/system packages python3-venv
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

NATIVE := hatch_build.py $(wildcard src/loopwright/*/_*.[ch] src/loopwright/*/rest/_*.[ch])

$(VENV)/.stamp-demo: $(VENV)/.stamp-uv requirements-demo.lock pyproject.toml $(NATIVE)
	@echo "installing what the demo needs"
	@$(UV) --require-hashes --no-deps --compile-bytecode -r requirements-demo.lock
	@$(UV) --no-deps -e .
	@$(BIN)/python -m compileall -q -j 0 src/loopwright
	@touch $@

$(VENV)/.stamp-full: $(VENV)/.stamp-uv requirements.lock pyproject.toml $(NATIVE)
	@echo "installing everything that development needs"
	@$(UV) --require-hashes --compile-bytecode -r requirements.lock
	@$(UV) --no-deps -e .
	@$(BIN)/python -m compileall -q -j 0 src/loopwright
	@touch $@ $(VENV)/.stamp-demo

setup: libraries $(VENV)/.stamp-full

setup-demo: libraries $(VENV)/.stamp-demo

# LightGBM's wheel expects the system's OpenMP library.
libraries:
	@bash .ci/system libraries

servers:
	@bash .ci/system servers

demo: setup-demo
	@$(BIN)/loopwright demo flights $(ARGS)

test: setup servers
	$(PYTEST) $(TESTS)

# The same for continuous integration: up to five failed tests are run once more, alone, and named (.ci/twice.py).
test-twice: setup servers
	$(BIN)/python .ci/twice.py $(PYTEST_OPTIONS) $(TESTS)

quick: setup
	$(PYTEST) -m "$(QUICK)" $(TESTS)

# Heavy (gigabytes in all), so no part of `make test`; a change that touches a system's neighbour runs it.
SYSTEMS ?=
interop: $(VENV)/.stamp-uv libraries
	@$(BIN)/python .ci/interop $(SYSTEMS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/tracked.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	@for program in bench/[a-z]*.py; do echo "== $$program"; $(BIN)/python "$$program"; done

# Each peer in an environment of its own, .bench-<peer>, from the pins in bench/tracking/ (ARGS="--quick --only raw").
bench-tracking: setup
	$(BIN)/python bench/tracking $(ARGS)

# The same with servers of models, from the pins in bench/serving_peers/; needs wrk, h2load and a C compiler.
bench-serving: setup
	$(BIN)/python bench/serving_peers $(ARGS)

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "the site is in site/; look at it with: $(BIN)/mkdocs serve"

# The lock files name versions and hashes, never an address: they are the same wherever the packages come from.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

# The extras that every developer has. The others weigh too much for that; `make interop` proves them.
LOCKED := demo postgres s3 redis pandas signing scan sbom secrets grpc otel

# The flights come with pandas, which the demo does not use and every process would load.
UNUSED := pandas python-dateutil six tzdata

lock: $(VENV)/.stamp-uv
	$(COMPILE) pyproject.toml $(LOCKED:%=--extra %) --group dev --group docs -o requirements.lock
	$(COMPILE) pyproject.toml --extra demo -c requirements.lock $(UNUSED:%=--no-emit-package %) -o requirements-demo.lock
	sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements-uv.lock | $(COMPILE) - -o requirements-uv.lock

clean:
	rm -rf $(VENV) .venv-interop-* .bench-* site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
