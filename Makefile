.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
OUT ?= demo/out
SHELL := bash
.SHELLFLAGS := -o pipefail -c

help: ## What can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready ## Make .venv from the lock file.

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rayedit needs Python 3.11 or newer: make PYTHON=python3.11")'
	@test -d .venv || $(PYTHON) -m venv .venv
	@echo "installing $$(wc -l < requirements.lock) packages into .venv (a few minutes the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Edit real photographs with the embedded model, and draw the report.
	@$(BIN)/python examples/make_manifest.py demo
	$(BIN)/rayedit batch demo/manifest.parquet $(OUT)

test: setup ## The tests that are not slow: ten minutes on two cores.
	@$(MAKE) --no-print-directory --jobs 2 --keep-going test-engine test-doors SELECTED='not chaos and not slow'

test-all: setup ## All tests but the long proofs.
	@$(MAKE) --no-print-directory --jobs 2 --keep-going test-engine test-doors

# The engine's tests, and others that start no Ray, run beside those that wait for it: each line says
# of which it is. Two halves on two cores: a thread each.
named = sed -u 's/^/$(1): /'
ENGINE_TESTS := tests/engine tests/tiny tests/gpu tests/training tests/storage \
	tests/cli/test_cli.py tests/cli/test_show.py tests/cli/test_sweep.py tests/cli/test_calibrate.py \
	tests/batch_jobs/test_edit.py tests/batch_jobs/test_check.py tests/batch_jobs/test_estimate.py \
	tests/test_benchmarks.py
SELECTED := not chaos

test-engine: setup
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m pytest -m '$(SELECTED)' $(ENGINE_TESTS) | $(call named,engine)

test-doors: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m '$(SELECTED)' tests $(ENGINE_TESTS:%=--ignore=%) | $(call named,doors)

test-chaos: setup ## The long proofs: processes killed, overload, abuse, a thousand requests.
	$(BIN)/python -m pytest -m chaos

lint: setup ## Format, lint, types, generated docs.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m docs.generate --check

check: browser lint test-all ## What CI runs.

browser: ## Chromium for the playground's tests, where apt may install it; else they skip.
	@for name in chromium chromium-browser google-chrome; do \
	    command -v $$name > /dev/null && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    echo "installing chromium with apt-get, for the playground's tests"; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -qq && apt-get install -qq --no-install-recommends chromium > /dev/null; \
	fi || true

docs: setup ## Write the tables of docs/ again.
	$(BIN)/python -m docs.generate

bench: setup ## rayedit against the diffusers pipeline, interleaved, on this machine.
	$(BIN)/python -m benchmarks.bench_engine

bench-serve: setup ## The server against a diffusers pipeline in @serve.batch, under load, in turn.
	$(BIN)/python -m benchmarks.bench_serve

IMAGE := rayedit:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

image: ## The container images: for GPUs, as configs/cluster names it, and for CPUs.
	docker build --target gpu --tag $(IMAGE) .
	docker build --target cpu --tag $(IMAGE)-cpu .

clean: ## Remove what the demo made.
	rm -rf demo

.PHONY: browser help image setup demo test test-all test-engine test-doors test-chaos lint check docs bench bench-serve clean
