# The verbs of this repository. Every one sets the environment up first (a no-op when it is current).
# Needs Python 3.11 and pip, nothing else: make demo

# A shim that stands for no installed Python fails here and is passed over.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
UV := $(BIN)/python -m uv
ARGS ?=
WORKERS ?= 2

# Nothing that runs here reports home.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export DAGSTER_DISABLE_TELEMETRY := 1
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint fix up down docs lock clean

help: ## show this list
	@sed -n 's/^\([a-z%-]*\):.*## /\1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

setup: ## make .venv hold exactly what requirements.lock names
	@python="$(PYTHON)"; test -n "$$python" || { echo "No Python found."; echo "  fix: make $@ PYTHON=/path/to/python3.11"; exit 1; } >&2; \
	  "$$python" infra/bootstrap.py

demo: setup ## the whole loop on real data, without Docker, in minutes
	@$(BIN)/mlops demo $(ARGS)

test: setup ## the tests, on WORKERS=2 processes; ARGS="-k words" narrows them
	@$(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: setup ## the tests that take minutes
	@$(BIN)/pytest -m slow $(ARGS)

lint: setup ## style, types and floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: setup ## mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

up: setup ## start the stack (ARGS=--lite: without Docker)
	@$(BIN)/mlops up $(ARGS)

down: setup ## stop the stack
	@$(BIN)/mlops down $(ARGS)

docs: setup ## write docs/reference anew from the code
	@$(BIN)/python docs/generate.py

# Names no host, so that the lock serves behind any mirror; hashes make the mirror's honesty irrelevant.
COMPILE = $(UV) pip compile --quiet --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header
IMAGE := --python-platform linux --constraint requirements.lock --no-annotate

lock: setup ## resolve requirements.lock and the images' subsets of it anew (ARGS=--upgrade)
	@$(COMPILE) pyproject.toml --all-extras --universal $(ARGS) -o requirements.lock
	@$(COMPILE) pyproject.toml $(IMAGE) --extra serving --extra explain -o infra/docker/serving.lock
	@$(COMPILE) pyproject.toml $(IMAGE) --extra assets --extra monitoring --extra examples -o infra/docker/platform.lock

bench-%: setup ## run a benchmark: bench-capture, bench-cli-help, bench-ingest, bench-serving, bench-soak, bench-train-overhead, bench-verdict
	@$(BIN)/python benchmarks/$(subst -,_,$*)/run.py $(ARGS)

clean: ## remove caches; keeps .venv and everything that runs have made
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
