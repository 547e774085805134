# The commands of the project. Each sets up what it needs; `make help` lists them.

PYTHON ?= python3
TORCH := torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO ?= demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check style docs lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment from the locked versions

# The lock pins everything but torch by hash; torch comes by version, in the build that suits the machine.
$(READY): pyproject.toml requirements/lock.txt Makefile
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Trifocal needs Python 3.11 to 3.13; this is {v[0]}.{v[1]}. Try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements/lock.txt
	$(BIN)/pip install --disable-pip-version-check --quiet $(TORCH)
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## Find moments and answer a question on real video, then leave a page to look at
	$(BIN)/python runs/demo.py --out $(DEMO)

test: $(READY) ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

test-slow: $(READY) ## Run the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

check: $(READY) ## Lint, format, types and import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/house/test_imports.py

style: $(READY) ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY) ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: ## Resolve requirements/lock.txt again (needs uv on the PATH)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	  --custom-compile-command 'make lock' --overrides requirements/without-torch.in \
	  --all-extras pyproject.toml requirements/lock.in -o requirements/lock.txt

clean: ## Remove what the commands above made
	rm -rf $(VENV) $(DEMO) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
