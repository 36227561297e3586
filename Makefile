# Everything below sets itself up in .venv; all it needs is Python 3.11 or later, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := $(VENV)/.bench
FUZZ := $(VENV)/.fuzz

.PHONY: help demo store test faults soak fuzz lint dist zipapp docs check bench plots stored pictures clean
.DEFAULT_GOAL := help

help: ## show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 10

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, and $(PYTHON) is " + v + ": make PYTHON=/path/to/python3.11")'
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

demo: $(READY) ## build this repository into a real S3 server, and compare what arrived
	@$(BIN)/python -m tests.real.demo

store: $(READY) ## start a real S3 server to try things on, with a presigned URL, until ^C
	@$(BIN)/python -m tests.real.store

test: $(READY) ## run the whole test suite, with branch coverage
	@mkdir -p build
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term $(ARGS)

faults: $(READY) ## meet each fault of docs/reliability.md, and write there what came of it
	@mkdir -p build
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/faults --write-page $(ARGS)

lint: $(READY) ## check style, types and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

dist: $(READY) zipapp ## try what is released, as users install it; asks the package index
	$(BIN)/python -m pytest -n 2 tests/packaging/dist.py $(ARGS)

# It runs with this very version of Python, on this kind of machine: what it needs is compiled.
zipapp: $(READY) ## make build/e2b-upload.pyz, one file that runs where this version of Python is
	rm -rf build/zipapp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target build/zipapp '.[e2b]'
	$(BIN)/shiv --reproducible --site-packages build/zipapp --root '~/.cache/e2b-upload' \
	  --python "/usr/bin/env python$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" \
	  --console-script e2b-upload --output-file build/e2b-upload.pyz

docs: $(READY) ## build the documentation into build/docs, and the manual page
	rm -rf build/docs build/man
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	$(BIN)/python -m sphinx -q -W --keep-going -b man -t man docs build/man
	cp build/man/e2b-upload.1 docs/
	$(BIN)/python -m tests.docs.links build/docs

bench: $(BENCH) ## measure speed and memory against other tools, with a target for each figure
	@$(BIN)/python -m tests.bench $(ARGS)

plots: $(BENCH) ## draw the pictures of docs/performance.md from the figures beside them
	@$(BIN)/python -m tests.bench.plot docs/performance/bench.json docs/performance
	@$(BIN)/python -m tests.bench.plot docs/performance/scale.json docs/performance

stored: $(READY) ## build 4 GiB into a real S3 server, and compare what it stored
	@$(BIN)/python -m tests.bench.stored $(ARGS)

soak: $(READY) ## build hundreds of times while everything goes wrong, and look for what stays
	@$(BIN)/python -m tests.soak $(ARGS)

fuzz: $(FUZZ) ## think up input with atheris, for a minute a kind
	@$(BIN)/python -m tests.fuzz $(ARGS)

pictures: $(READY) ## make docs/at-work.svg and the other pictures of a build anew
	@$(BIN)/python -m tests.docs.pictures

check: lint test dist docs ## all that has to hold before a commit

clean: ## remove what was made
	find e2b_upload tests docs -name __pycache__ -prune -exec rm -rf {} +
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
