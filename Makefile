# Each target does the set-up that it needs; `make setup` installs once, and again only when the pins change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/demo
# Many tests wait for Ray, so more processes than cores. Files go to them in the order of their names: those that wait most come first.
PARALLEL ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder
# The tests start hundreds of processes: modules are compiled once, and not by each of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-slow bench gpu lint format

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,vlm]'
	touch $@

demo: setup
	$(BIN)/dap run demo --run-dir $(RUN_DIR)
	cat $(RUN_DIR)/reports/evaluation/table.txt
	$(BIN)/dap verify --run-dir $(RUN_DIR)

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	$(BIN)/python -m tests.benchmarks --out BENCHMARKS.md

gpu: setup
	$(BIN)/python -m tests.gpu --out runs/gpu

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
