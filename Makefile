# Everything works on a fresh machine with Python 3.11 or later and make. Nothing requires root, Docker or a database.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(BIN)/uv pip compile --quiet --no-emit-index-url --no-emit-package authsvc-client --generate-hashes --universal \
  --python-version 3.11 --no-header
MARKDOWN := $(wildcard *.md) docs deploy examples src/README.md $(wildcard clients/*.md clients/*/*.md)

.PHONY: help run test test-quick check bench proto clients manifests format lock dist clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## Run the service at 127.0.0.1:50051 with an embedded PostgreSQL
	@exec $(BIN)/authsvc dev

test: $(VENV)/dev.stamp ## Run all tests, or some with ARGS='-k verify'
	@PATH="$(CURDIR)/$(BIN):$(CURDIR)/.tools:$$PATH" $(BIN)/python -m pytest -n auto $(ARGS)

test-quick: $(VENV)/dev.stamp ## Run the quick tests, which take four minutes on two cores
	@PATH="$(CURDIR)/$(BIN):$(CURDIR)/.tools:$$PATH" $(BIN)/python -m pytest -p tests.quick -n auto $(ARGS)

check: $(VENV)/dev.stamp ## Check format, lint, import rules, types, spelling, protos, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/mdformat --check $(MARKDOWN)
	$(BIN)/typos
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	cd protos && ../$(BIN)/buf breaking --against released.binpb
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(MAKE) --no-print-directory proto OUT="$$fresh" \
	  && for package in authsvc/v1 authsvc/gateway/v1; do \
	       diff -r -x __pycache__ -x __init__.py "$$fresh/$$package" "src/$$package" \
	       || { echo "Generated code is stale: run 'make proto' and commit the changes." >&2; exit 1; }; done

bench: $(VENV)/dev.stamp ## Run the benchmarks of the README (requires h2load, Debian package nghttp2-client)
	@$(BIN)/python -m tests.bench $(ARGS)

OUT := src
proto: $(VENV)/dev.stamp ## Generate code from protos/
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python protos/generate.py $(OUT)

clients: $(VENV)/dev.stamp ## Generate the code of the clients in other languages from protos/ (requires Go, npm)
	$(BIN)/python clients/generate.py go
	$(BIN)/python clients/generate.py typescript
	$(BIN)/python clients/generate.py java

manifests: $(VENV)/dev.stamp ## Generate what is made of the Helm chart: manifests, and the table of its values
	@PATH="$(CURDIR)/.tools/kubernetes:$$PATH" $(BIN)/python deploy/kubernetes/generate.py

format: $(VENV)/dev.stamp ## Format the code, the documents and the protos
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mdformat $(MARKDOWN)
	cd protos && ../$(BIN)/buf format --write

lock: $(VENV)/dev.stamp ## Update the locked dependencies
	$(LOCK) \
	  --extra embedded --extra otel --group pyproject.toml:build pyproject.toml -o requirements.lock
	$(LOCK) \
	  --constraint requirements.lock --extra embedded --extra otel --group pyproject.toml:build --group pyproject.toml:dev pyproject.toml -o requirements-dev.lock

dist: $(VENV)/dev.stamp ## Build the packages and the SBOM of a release into dist/, and check them
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m release dist

clean: ## Remove the virtual environment and caches, but not .data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/run.stamp: requirements.lock pyproject.toml clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("authsvc requires Python 3.11 or later; this is %s. Try: make PYTHON=python3.12 ..." % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the dependencies of authsvc ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e . -e clients/python
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "Installing the dependencies of the tests and checks ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
