# Everything below installs itself into .venv. It needs Python 3.11 or later, and a package index.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := $(VENV)/.bench
FUZZ := $(VENV)/.fuzz
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: help demo store test test-slow test-all test-pythons faults soak fuzz lint dist zipapp docs check bench plots stored pictures clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

$(READY): pyproject.toml
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or later is needed: make PYTHON=/path/to/python3.13' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed; $(PYTHON) is %d.%d" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $(READY)

$(BENCH): $(READY)
	$(BIN)/python -m pip install --quiet --group bench
	@touch $(BENCH)

$(FUZZ): $(READY)
	$(BIN)/python -m pip install --quiet --group fuzz
	@touch $(FUZZ)

demo: $(READY) ## upload this repository to a local S3 server, and compare the result
	@$(BIN)/python -m tests.real.demo

store: $(READY) ## run a local S3 server with a presigned URL until ^C
	@$(BIN)/python -m tests.real.store

test: $(READY) ## run the fast tests, with branch coverage: at most three minutes on two cores
	@mkdir -p build
	$(PYTEST) -m 'not slow' --cov --cov-report=term $(ARGS)

test-slow: $(READY) ## run the tests of real servers, waits, the documentation and its examples
	$(PYTEST) -m slow $(ARGS)

test-all: test test-slow ## run all tests

test-pythons: $(READY) ## run the fast tests on every installed Python from 3.11 on
	PATH="$$PATH$$(printf ':%s' "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin)" $(BIN)/tox $(ARGS)

faults: $(READY) ## cause each fault of docs/reliability.md, and update its tables
	$(PYTEST) tests/faults --write-page $(ARGS)

lint: $(READY) ## check style, types and imports between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

dist: $(READY) zipapp ## build the release, and install it as users do; needs the package index
	$(BIN)/python -m pytest -n 2 tests/packaging/dist.py $(ARGS)

# The file runs only on this version of Python and this kind of machine: it contains compiled modules.
zipapp: $(READY) ## build the command as one file, build/e2b-upload.pyz
	rm -rf build/zipapp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target build/zipapp '.[e2b]'
	$(BIN)/shiv --reproducible --site-packages build/zipapp --root '~/.cache/e2b-upload' \
	  --python "/usr/bin/env python$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
	  --console-script e2b-upload --output-file build/e2b-upload.pyz

docs: $(READY) ## build the manual page, and the documentation into build/docs
	rm -rf build/docs build/man
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	$(BIN)/python -m sphinx -q -W --keep-going -b man -t man docs build/man
	cp build/man/e2b-upload.1 docs/
	$(BIN)/python -m tests.docs.links build/docs

bench: $(BENCH) ## compare speed and memory with other tools and with targets
	@$(BIN)/python -m tests.bench $(ARGS)

plots: $(BENCH) ## draw the plots of docs/performance.md
	@$(BIN)/python -m tests.bench.plot docs/performance/bench.json docs/performance
	@$(BIN)/python -m tests.bench.plot docs/performance/scale.json docs/performance

stored: $(READY) ## upload 4 GiB to a local S3 server, and compare the result
	@$(BIN)/python -m tests.bench.stored $(ARGS)

soak: $(READY) ## run 500 uploads with injected faults, and check for leaks
	@$(BIN)/python -m tests.soak $(ARGS)

fuzz: $(FUZZ) ## fuzz each parser with atheris for a minute
	@$(BIN)/python -m tests.fuzz $(ARGS)

pictures: $(READY) ## draw the pictures of the progress display in docs/
	@$(BIN)/python -m tests.docs.pictures

check: lint test-all dist docs ## run all checks, as before a commit

clean: ## remove everything that was built
	find e2b_upload tests docs -name __pycache__ -prune -exec rm -rf {} +
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
