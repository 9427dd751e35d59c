# Everything here works on a fresh machine with Python 3.11+ and make; nothing needs root, Docker or a database.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PROTOS := $(wildcard protos/authsvc/v1/*.proto)
MARKDOWN := $(wildcard *.md) docs deploy examples

.PHONY: help run test check bench proto format lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## Run the service on its own PostgreSQL at 127.0.0.1:50051
	@exec $(BIN)/authsvc dev

test: $(VENV)/dev.stamp ## Run every test (ARGS='-k verify' for some)
	@PATH="$(CURDIR)/$(BIN):$(CURDIR)/.tools:$$PATH" $(BIN)/python -m pytest -n auto $(ARGS)

check: $(VENV)/dev.stamp ## Format, lint, import rules, types, spelling, proto lint, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/mdformat --check $(MARKDOWN)
	$(BIN)/typos
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	cd protos && ../$(BIN)/buf breaking --against released.binpb
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(MAKE) --no-print-directory proto OUT="$$fresh" \
	  && for package in authsvc/v1 authsvc/gateway/v1 buf/validate; do \
	       diff -r -x __pycache__ -x __init__.py "$$fresh/$$package" "src/$$package" \
	       || { echo "Generated code is stale: run 'make proto' and commit what it changes." >&2; exit 1; }; done

bench: $(VENV)/dev.stamp ## Measure what the README claims (needs h2load: Debian's nghttp2-client)
	@$(BIN)/python -m tests.bench $(ARGS)

OUT := src
proto: $(VENV)/dev.stamp ## Generate code from protos/
	@mkdir -p $(OUT)/authsvc/v1
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc --proto_path=protos \
	  --python_out=$(OUT) --grpc_python_out=$(OUT) --mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) \
	  --include_source_info --descriptor_set_out=$(OUT)/authsvc/v1/descriptors.binpb \
	  $(PROTOS)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc --proto_path=protos \
	  --python_out=$(OUT) --mypy_out=quiet:$(OUT) protos/buf/validate/validate.proto protos/authsvc/gateway/v1/*.proto
	@cd $(OUT)/authsvc/v1 && for f in options resources rules; do rm -f $${f}_pb2_grpc.py $${f}_pb2_grpc.pyi; done

format: $(VENV)/dev.stamp ## Format the code, the documents and the protos
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mdformat $(MARKDOWN)
	cd protos && ../$(BIN)/buf format --write

lock: ## Pin the dependencies anew (needs uv)
	uv pip compile --quiet --no-emit-index-url --generate-hashes --universal --python-version 3.11 --no-header \
	  --extra embedded --group pyproject.toml:build pyproject.toml -o requirements.lock
	uv pip compile --quiet --no-emit-index-url --generate-hashes --universal --python-version 3.11 --no-header \
	  --constraint requirements.lock --extra embedded --group pyproject.toml:build --group pyproject.toml:dev pyproject.toml -o requirements-dev.lock

clean: ## Remove the environment and the caches (never .data)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/run.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("authsvc needs Python 3.11 or later; this is %s. Try: make PYTHON=python3.12 ..." % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what authsvc needs ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "Installing what the tests and checks need ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
