# `make` prints the targets. Everything installs itself into .venv from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check bench docs format clean

help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "genrail needs Python 3.11 or newer; point PYTHON to one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -c 'from genrail.constraints import warm_up; warm_up(print, 256)'
	@touch $(READY)

install: $(READY) ## Create .venv and install what is needed

demo: $(READY) ## Build the demo shop and search it
	@$(BIN)/genrail demo

test: $(READY) ## Run the tests (minutes)
	$(BIN)/python -m pytest

test-all: $(READY) ## Run the slow and statistical tests too
	$(BIN)/python -m pytest -m "not gpu and not network"

check: $(READY) ## Lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY) ## Format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Measure the constraint step and the decoders, side by side
	$(BIN)/python benchmarks/constraints.py --quick

docs: $(READY) ## Run every code block of README and docs
	$(BIN)/python -m pytest tests/test_documents.py

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
