# SPDX-License-Identifier: Apache-2.0
# make setup    .venv with everything in it; no root, and nothing to do when nothing changed
# make demo     a trained network becomes checked Verilog in build/demo; NETWORK=digits_cnn another
# make test     the whole suite but its heavy campaigns
# make test-full  those too: goes on where it was interrupted; SHARD=1/4 the first of four parts
# make check    format, lint, types and the quick tests
# make bench    every figure the project promises, measured

PYTHON ?= python3
JOBS ?= 2
NETWORK ?= digits
BIN := .venv/bin
STAMP := .venv/setup.stamp
PYTEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup
ROOMS := quant hdl blocks sim bitblocks

.PHONY: setup demo test test-full check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml Makefile .ci/prerequisites
	@missing=$$(.ci/prerequisites "$(PYTHON)") || { \
	    test -z "$$missing" || echo "Missing: $$missing. To install it: sudo apt-get install python3-venv libpython3-dev g++ make" >&2; \
	    exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[examples,place,dev]'
	@touch $@

demo: setup
	$(BIN)/python -m examples.demo $(NETWORK)

# Two processes halve the time of a suite that mostly waits for simulators and compilers; tests
# share nothing but caches that are made for several writers. Those of one xdist_group, which need
# the same costly build, stay in one process.
test: setup
	$(PYTEST) -m "not full"

# What has passed is kept in build/full, until a file changes.
test-full: setup
	$(PYTEST) --resume build/full $(if $(SHARD),--part $(SHARD))

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not full and not slow"

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[benchmark]'
	$(BIN)/python -m benchmarks

clean:
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
