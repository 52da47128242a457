# Two commands for a fresh machine with Python 3.10 to 3.13: `make demo` and `make test`.
# Each makes .venv when it is missing and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint unit format clean

demo: $(VENV)/.train
	$(BIN)/edgeseg demo --out runs/demo --overwrite

test: lint unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/python -m pytest

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist build runs/demo

$(VENV)/.train: pyproject.toml | $(BIN)/python
	@echo "Installing edgeseg with its training packages into $(VENV) (about 2.5 GB, a minute or more) ..."
	$(INSTALL) -e '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing edgeseg with its training and development packages into $(VENV) (about 2.5 GB) ..."
	$(INSTALL) -e '.[train,dev]'
	@touch $@ $(VENV)/.train

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else \
	"Expected Python 3.10 to 3.13, got %d.%d. Name another one: make PYTHON=python3.11 ..." % v)'
	$(PYTHON) -m venv $(VENV)
