# Everything runs in .venv, which the first target that needs it builds. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
OUT ?= mdm-demo

.PHONY: help demo test test-quick lint format types check docs figures tables clean

help: ## the targets, and what each does
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "%-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## explain 16 digits with the embedded network; figures in $(OUT)
	$(BIN)/mdm demo --out $(OUT)

test: $(VENV)/.developed ## the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-quick: $(VENV)/.developed ## contracts, analytic truths and one of each kind
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

lint: $(VENV)/.developed ## style, format, layers and spelling, changing nothing
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-cache && $(BIN)/oxlint mdm_jax/views && $(BIN)/codespell

format: $(VENV)/.developed ## mend style and format
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

types: $(VENV)/.developed ## static types
	$(BIN)/mypy

check: lint types test ## what continuous integration runs

docs: $(VENV)/.documented ## the documentation site, in docs/_build/html; warnings are errors
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "the site is in docs/_build/html: open index.html there"

figures: $(VENV)/.installed ## the README's figures and the energy that it quotes
	$(BIN)/python experiments/figures/readme_figures.py

tables: $(VENV)/.installed ## every table of the pages, from experiments/results
	$(BIN)/python experiments/make_tables.py

clean: ## remove the environment, the site and caches
	rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "mdm_jax needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "building $(VENV): Python packages are installed once, which takes a minute or more"
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(PIP) -e .
	@touch $@

$(VENV)/.developed: $(VENV)/.installed
	@echo "adding what the tests and checks need to $(VENV)"
	PIP_CONSTRAINT=constraints.txt $(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.documented: $(VENV)/.installed
	PIP_CONSTRAINT=constraints.txt $(PIP) -e '.[docs]'
	@touch $@
