# `make demo` and `make test` set up everything they need, in .venv, and may be run any number of times.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo demo-serve test check format compat bench soak clean
.DEFAULT_GOAL := test

$(VENV)/.created:
	@echo "setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.created pyproject.toml
	@$(PIP) install --editable '.[fastapi]' --group demo
	@touch $@

$(VENV)/.development: $(VENV)/.created pyproject.toml
	@$(PIP) install --editable '.[all]' --group demo --group test --group check
	@touch $@

$(VENV)/.bench: $(VENV)/.development
	@$(PIP) install --group bench
	@touch $@

demo: $(VENV)/.demo  ## An invoice is created, and its callback arrives; ends by itself.
	@$(BIN)/python -m demo

demo-serve: $(VENV)/.demo  ## The same two services, left running.
	@$(BIN)/python -m demo --serve

test: $(VENV)/.development  ## The tests, on asyncio and trio, with the coverage floor.
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

check: $(VENV)/.development  ## Format, lint, types, layers.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.development
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

compat: $(VENV)/.development  ## Other frameworks, versions and servers, each in an environment of its own.
	$(BIN)/python -m pytest tests/compat

soak: $(VENV)/.development  ## Crashes and power cuts, over and over; CRASH_SEED=n repeats a run of crashes.
	$(BIN)/python -m pytest tests/soak -rP

bench: $(VENV)/.bench  ## The figures of docs/benchmarks.md.
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venvs .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
