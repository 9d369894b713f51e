# `make` lists the targets. The environment is .venv in this checkout; every target that needs it
# makes it first (.ci/setup.py), and finds it ready from then on.
PLATFORM ?= cpu
PYTHON ?= python3

BIN := .venv/bin
# The launcher gives every role its share of the cores; tests run in one process and take one core.
# Threads that spin at barriers slow a machine with fewer cores than threads thirtyfold.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest

ifneq ($(filter-out cpu gpu,$(PLATFORM)),)
$(error PLATFORM is cpu or gpu, not $(PLATFORM))
endif
WITHOUT_GPU := $(if $(filter cpu,$(PLATFORM)), and not gpu)

.DEFAULT_GOAL := help
.PHONY: help setup demo coldstart test test-all lint format types docs mutants lock clean distclean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
	@echo "PLATFORM=cpu|gpu (now $(PLATFORM)) and PYTHON=... (now $(PYTHON)) say what .venv is made for"

setup: ## make .venv, or bring it up to date
	@$(PYTHON) .ci/setup.py --platform $(PLATFORM)

demo: setup ## train the nano model for a few minutes
	@$(BIN)/async_r1 launch experiment=demo

coldstart: setup ## make the cold-start checkpoint of the nano model
	@$(BIN)/async_r1 sft experiment=nano_coldstart

test: setup ## unit and integration tests, in about a quarter of an hour
	@$(PYTEST) -m "not soak$(WITHOUT_GPU)"

test-all: setup ## the same and the soak tests
	@$(PYTEST) -m "soak or not soak$(WITHOUT_GPU)"

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: setup ## mypy
	@$(BIN)/mypy

docs: setup ## write docs/options.md and docs/metrics.md again
	@$(BIN)/python docs/generate.py

mutants: setup ## break the code on purpose, and see that the tests notice
	@$(BIN)/python tests/mutants/run.py

lock: ## resolve pyproject.toml into cpu.lock and gpu.lock again (UPGRADE=1: to the newest)
	@PYTHON=$(PYTHON) UPGRADE=$(UPGRADE) .ci/lock.sh

clean: ## remove caches and builds
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -not -path './.lock-venv/*' -prune \
		-exec rm -rf {} +

distclean: clean ## remove the environments as well; runs stay
	@rm -rf .venv .lock-venv
