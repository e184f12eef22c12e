# Everything sets itself up: a virtual environment in .venv, then what the target needs.
PYTHON ?= python3
# Those of `make versions`, each in an environment of its own.
PYTHON_lowest ?= python3.11
PYTHON_highest ?= python3.13
BIN := .venv/bin

# Tests start hundreds of processes; each would compile everything anew where this is set.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check versions versions-lowest versions-highest lint format docs clean

demo: .venv/installed  ## Install and run the ablation study.
	$(BIN)/zostudy run studies/ablation.yaml

test: lint  ## Install and run every check and test.
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "slow or not slow"

check: lint  ## Format, lint, types, imports and the tests that are not slow.
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

versions: versions-lowest versions-highest  ## The tests that are not slow, with the lowest and the highest versions.

versions-lowest versions-highest: versions-%: .venv-%/tested
	.venv-$*/bin/python -m pytest --numprocesses auto --dist loadfile

lint: .venv/tested  ## Format, lint, types and imports.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/tested  ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/documented  ## Build the documentation into build/site; broken links are errors.
	PYTHONPATH=. NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

clean:  ## Remove the environment and what building leaves behind.
	rm -rf .venv .venv-lowest .venv-highest build *.egg-info

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zostudy needs Python 3.11 or later; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

.venv/documented: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

.venv-lowest/tested .venv-highest/tested: .venv-%/tested: pyproject.toml constraints/%.txt
	$(PYTHON_$*) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --constraint constraints/$*.txt --editable '.[test]'
	touch $@
