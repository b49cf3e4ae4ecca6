# Everything lives in .venv of this checkout; Python 3.11 or newer and make are all that is needed to begin.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench format lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## the environment, exactly as locked
demo: $(STAMP) ## two real models behind the router, 90/10, with the comparison
	$(BIN)/canary-router demo

test: $(STAMP) ## the whole suite, with every branch of core and config covered
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

check: $(STAMP) ## style, types and import directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## CPU per forwarded request against nginx; served models against MLflow's server
	$(BIN)/python -m loadtest.bench
	$(BIN)/python -m loadtest.serving

format: $(STAMP) ## lets ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
    --python-version 3.11 --custom-compile-command "make lock"

lock: $(STAMP) ## resolves the dependencies anew; commit the outcome
	$(LOCK) --upgrade --all-extras pyproject.toml -o requirements/lock.txt
	$(LOCK) --upgrade -c requirements/lock.txt requirements/tools.in -o requirements/tools.txt
	$(LOCK) -c requirements/lock.txt --extra sklearn pyproject.toml -o requirements/runtime.txt

clean: ## removes the environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage dist

# The stamp is the last thing written: an interrupted set-up is done again.
$(STAMP): requirements/tools.txt requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed, and $(PYTHON) is not; try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	    { echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes \
	    requirements/tools.txt requirements/lock.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
