# For a fresh machine with Python 3.10 to 3.13: `make demo`, `make test`, `make docs`, and `make wheel` for a board.
# Each creates .venv when it is missing and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test wheel docs lint unit light aarch64 format clean

demo: $(VENV)/.train
	$(BIN)/edgeseg demo --out runs/demo --overwrite

test: lint unit

# One file that pip installs anywhere: dist/edgeseg-VERSION-py3-none-any.whl. Older wheels are removed, so that the
# pattern dist/edgeseg-*.whl matches exactly one file.
wheel: | $(BIN)/python
	$(INSTALL) 'hatchling>=1.26'
	rm -f dist/edgeseg-*.whl
	$(BIN)/python -m hatchling build --target wheel

# The pages as a static site: open dist/docs/index.html. It needs no server and no network.
docs: $(VENV)/.dev
	rm -rf dist/docs
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . dist/docs

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# In the order of the files: the long ones of tests/integration first, so that no core is left with one at the end.
unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The light install under the oldest and the newest Python, where this machine has them.
light: $(VENV)/.dev
	EDGESEG_PYTHONS="3.10 3.13" $(BIN)/python -m pytest tests/device/test_light_install.py

# An archive for a board, installed and run on an emulated 64-bit ARM machine; needs root. See docs/how-to/deploy.md.
aarch64: $(VENV)/.dev
	$(BIN)/python benchmarks/aarch64.py runs/aarch64

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
