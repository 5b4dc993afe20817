# One verb each, the same here and in CI: make setup, make test, make lint, make bench.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

.PHONY: setup test lint bench

setup:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt -e '.[dev]'

test: $(BIN)/pytest
	$(BIN)/pytest $(ARGS)

lint: $(BIN)/ruff $(BIN)/mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BIN)/classsr
	$(BIN)/python benchmarks/run.py $(or $(ARGS),--out benchmarks/results.md)

$(BIN)/%:
	$(error Expected $@ but it is not installed: run "make setup" first)
