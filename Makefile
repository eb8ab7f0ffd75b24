# `make demo` and `make test` need Python 3.11+ and nothing else; everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test check bench clean help

help:
	@echo "make demo    payments through five PSPs with every kind of trouble, checked against the bank's books"
	@echo "make test    the whole test suite"
	@echo "make check   linters, formatters, type checkers and the import contract"
	@echo "make bench   throughput and latency against pgbench on the same PostgreSQL"

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "AegisPay needs Python 3.11 or later; set PYTHON=python3.x" >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@touch $@

$(VENV)/.runtime: $(VENV)/.python pyproject.toml
	@echo "Installing AegisPay into $(VENV) ..."
	@$(PIP) install --editable '.[all]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	@echo "Installing what the tests need ..."
	@$(PIP) install --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@echo "Installing the checkers ..."
	@$(PIP) install --group check
	@touch $@

demo: $(VENV)/.runtime
	$(BIN)/aegispay demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(VENV)/.test
	$(BIN)/python benchmarks/vs_pgbench.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
