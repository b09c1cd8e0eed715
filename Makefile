# One command per purpose; the same commands run in CI. A fresh machine needs python3 (3.11 to 3.14), pip, make and git.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
AUDIT ?=
WORKERS ?= 2

BIN := $(VENV)/bin
PY := $(BIN)/python
.DEFAULT_GOAL := run
.PHONY: run test check audit newest docs pages reliability bench ui help lock clean setup
MAKEFLAGS += --no-print-directory

# Compiled bytecode halves the start of every command, so set-up and first imports write it even where the
# environment asks Python not to.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH PYTHONHOME

# Installs one hash-locked file with uv, or with pip where uv cannot be had or cannot reach the index.
define install
	@echo "Installing $(1) ..."
	@{ test -x $(BIN)/uv && $(BIN)/uv pip install -q --python $(PY) --compile-bytecode --require-hashes -r $(1); } \
	  || $(PIP) install -q --require-hashes -r $(1)
endef

# pip of the virtual environment, or the machine's own pip working on it where ensurepip is missing.
PIP = $$(test -x $(BIN)/pip && echo "$(PY) -m pip" || echo "$(PYTHON) -m pip --python $(PY)") --disable-pip-version-check

run: $(VENV)/.base  ## set everything up, then the main job on the built-in simulator (ARGS="..." passes options)
	@$(BIN)/trade-analyst run $(ARGS)

test: $(VENV)/.dev  ## format, lint, types, import ranks, declared dependencies, whole test suite with coverage
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(BIN)/lint-imports --cache-dir .cache/import-linter
	$(PY) -m deptry .
	@rm -rf .cache/coverage && mkdir -p .cache/coverage
	$(PY) -m coverage run -m pytest -n $(WORKERS) $(ARGS)
	@$(PY) -m coverage combine -q
	$(PY) -m coverage report

check: test audit  ## test, then audit

audit: $(VENV)/.dev  ## known vulnerabilities of the locked packages, workflow lint and a search for secrets
	$(PY) .ci/audit.py $(AUDIT) requirements/base.txt requirements/dev.txt
	$(BIN)/zizmor --offline --no-progress --min-severity medium .github/workflows
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook $(NO_SECRETS)
# Lock files hold hashes; nine capitals and digits are a CUSIP, 64 hexadecimal digits a SHA-256.
NO_SECRETS := --exclude-files '^requirements/.*\.txt$$' --exclude-secrets '^[0-9A-Z]{9}$$|^[0-9a-f]{64}$$'

newest: $(VENV)/.dev  ## put the newest releases within the declared ranges into the virtual environment
	$(BIN)/uv pip install -q --python $(PY) --upgrade -r requirements/base.in -r requirements/dev.in

docs: $(VENV)/.dev  ## write docs/tables.md from the declarations in the code
	$(PY) .ci/data_dictionary.py > docs/tables.md

pages: $(VENV)/.dev  ## pages of metrics to read again beside changed code (ARGS=iv_rank: that one has been read)
	@$(PY) .ci/metric_pages.py $(ARGS)

reliability: $(VENV)/.dev  ## the fault, kill, fuzz and leak harnesses in full form; names what could not run here
	$(PY) -m pytest -m "reliability or full_only" --full -rsP $(ARGS)

bench: $(VENV)/.dev  ## benchmarks against peers and limits, as one table
	$(PY) -m benchmarks $(ARGS)

ui: $(VENV)/.base  ## Dagster UI and daemon with the simulator behind them, on loopback; Ctrl-C stops both
	@$(BIN)/trade-analyst ui $(ARGS)

setup: $(VENV)/.dev  ## only the set-up, development tools included

help:  ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## */  make \1\t/p' Makefile | expand -t 22

lock: $(VENV)/.dev  ## compile requirements/*.in again with the newest allowed releases
	cd requirements && ../$(BIN)/uv pip compile $(LOCK) base.in -o base.txt
	cd requirements && ../$(BIN)/uv pip compile $(LOCK) base.in dev.in -c base.txt -o dev.txt
	cd requirements && ../$(BIN)/uv pip compile $(LOCK) tools.in -o tools.txt
LOCK := --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras -q

clean:  ## remove the virtual environment and caches; data, tokens and settings stay
	rm -rf $(VENV) build dist *.egg-info .cache/mypy .cache/pytest .cache/ruff .cache/coverage .cache/import-linter .cache/hypothesis
	find trade_analyst_pipeline trade_analyst_tests benchmarks .ci -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not on this machine. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 15) else "Python 3.11 to 3.14 is needed, \
	but %s is %d.%d. Name another one: make PYTHON=/path/to/python3.12" % (sys.executable, v[0], v[1]))'
	@$(PY) -c "" 2>/dev/null || $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear --without-pip $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.python requirements/tools.txt requirements/base.txt pyproject.toml
	@$(PIP) install -q --require-hashes -r requirements/tools.txt \
	  || echo "uv could not be installed; pip does its work, more slowly."
	$(call install,requirements/base.txt)
	@$(PIP) install -q --no-deps --no-build-isolation --no-index -e .
	@echo "Compiling the kernels ..."
	@$(PY) -m trade_analyst_pipeline.kernels.precompile
	@touch $@

$(VENV)/.dev: $(VENV)/.base requirements/dev.txt
	$(call install,requirements/dev.txt)
	@touch $@
