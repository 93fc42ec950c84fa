# Everything runs in .venv, which the first target that needs it builds. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
OUT ?= mdm-demo

.PHONY: help demo test test-quick lint format types check wheel docs notebooks figures tables clean

help: ## the targets, and what each does
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "%-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## explain 16 digits with the embedded network; figures in $(OUT)
	@echo "Explaining 16 digits. First the program is compiled, which takes part of a minute."
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

wheel: ## build the wheel, install it in an empty environment, use it there; PYTHON=python3.13 for another
	$(PYTHON) .ci/check_wheel.py --install

docs: $(VENV)/.documented ## the documentation site, in docs/_build/html; warnings are errors
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "the site is in docs/_build/html: open index.html there"

notebooks: $(VENV)/.developed ## run the notebooks, write their pages; WEIGHTS=FOLDER of a ResNet-50, for that of the photo
	$(BIN)/python experiments/render_notebooks.py $(if $(WEIGHTS),--photo-weights $(WEIGHTS))

figures: $(VENV)/.installed ## the README's figures and the energy that it quotes
	$(BIN)/python experiments/figures/readme_figures.py

tables: $(VENV)/.installed ## every table of the pages, from experiments/results
	$(BIN)/python experiments/make_tables.py

clean: ## remove the environment, the site and caches
	rm -rf $(VENV) docs/_build build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "mdm_jax needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Building the environment $(VENV) with $$($(PYTHON) --version). This happens once."
	@$(PYTHON) -m venv $(VENV)
	@echo "pip installs mdm_jax and the packages that it needs: some 70, 1.2 GB on disk, a minute or more."
	PIP_CONSTRAINT=constraints.txt $(INSTALL) -e .
	@echo "Installed."
	@touch $@

$(VENV)/.developed: $(VENV)/.installed
	@echo "pip adds what the tests and checks need to $(VENV), quietly: a minute or so."
	PIP_CONSTRAINT=constraints.txt $(INSTALL) --quiet -e '.[dev]'
	@touch $@

$(VENV)/.documented: $(VENV)/.installed
	@echo "pip adds what the site needs to $(VENV), quietly."
	PIP_CONSTRAINT=constraints.txt $(INSTALL) --quiet -e '.[docs]'
	@touch $@
