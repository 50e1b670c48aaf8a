# `make` lists the commands.
#
# PYTHON makes the environment (3.10 to 3.13), VENV is where it lies; an existing one keeps its
# Python, so another Python needs another VENV or a `make clean`:
#     make test VENV=.venv-3.12 PYTHON=python3.12
# `make setup` installs the locked versions over those that it finds. Into an environment of your
# own, with your own Detectron2, install the project yourself: `python -m pip install -e .`
# On a machine with an NVIDIA GPU the same lock gives a PyTorch that uses it.

PYTHON ?= python3
VENV ?= .venv
UV ?= uv

BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# `make test` runs two processes of one thread each: threads that share two cores with other work
# wait for each other, and the tests then take many times as long. Each process begins with one half
# of the files, so that what the tests of a file share is made once.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-gpu test-peers docs lint lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv: the locked packages, Detectron2, this project (quick when done)
	@$(PYTHON) tools/setup_environment.py $(VENV)

demo: setup ## make a small data set, search for cells, train a detector, evaluate, report, draw
	$(BIN)/python tools/demo.py

test: setup ## the tests that every change must pass
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal

test-slow: setup ## tests that take minutes
	OMP_NUM_THREADS=2 $(PYTEST) -m slow

test-gpu: setup ## tests that need a CUDA device
	$(PYTEST) -m gpu

test-peers: setup ## install other implementations (timm, Keras, ...) and compare with them
	$(BIN)/python -m pip install --no-build-isolation -e ".[peers,runtimes,tensorflow]"
	OMP_NUM_THREADS=2 $(PYTEST) -m peers

docs: setup ## the site, in docs/_build; a warning, a dead link or a missing docstring ends it
	$(BIN)/python docs/generate --check
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build

lint: setup ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Versions that are in the lock stay, unless pyproject.toml rules them out: remove the file to take
# the newest of all. Torch's versions are in pyproject.toml, under [tool.uv].
lock: ## make requirements.lock again from pyproject.toml (needs uv)
	@command -v $(UV) > /dev/null || { echo "make lock needs uv: python -m pip install uv" >&2; exit 1; }
	$(UV) pip compile pyproject.toml --output-file requirements.lock --quiet --universal \
	    --python-version 3.10 --extra detection --extra classification --extra search \
	    --extra shards --extra timm --extra weights --extra export --extra report --extra video --extra demo --extra docs --extra dev \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock"

clean: ## remove .venv, caches and builds, not output/
	rm -rf $(VENV) build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache
