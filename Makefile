# Two commands for a newcomer: `make demo` and `make test`. Each first makes .venv from requirements.lock where it is
# missing or older than the lock. No package index is named here: pip's own settings say where packages come from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready

.PHONY: help env demo test lint soak lock clean

help:
	@echo "make demo   real data, a small model, the whole road"
	@echo "make test   lint, types and all tests (make soak: the long ones)"
	@echo "make env    only the environment, .venv, from requirements.lock"
	@echo "make lint   only format, lint and types"
	@echo "make lock   requirements.lock again, from pyproject.toml, in a fresh environment"

env: $(READY)

# The stamp comes last: an install that was cut off starts again from an empty environment. `--compile` is said aloud
# since TensorFlow without its .pyc files imports three times slower, in every replica.
$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Slotcar needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is %d.%d: say make PYTHON=python3.12." % sys.version_info[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --compile --progress-bar off --requirement requirements.lock
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --no-deps --no-build-isolation --no-index --progress-bar off --editable .
	@touch $@

demo: env
	$(BIN)/slotcar demo

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two files of tests at a time: whatever a module shares, a Ray cluster or a compiled model, stays in one process. The
# order is that of tests/conftest.py, which begins with the long ones.
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

soak: env
	$(BIN)/python -m pytest -m soak --timeout=7200
	$(BIN)/python -m tests.sim --count 100000 --jobs 2

lock:
	$(PYTHON) -m venv --clear .lock-env
	.lock-env/bin/python -m pip install --upgrade --progress-bar off '.[demo,dev]'
	echo '# What `make env` installs. Made by `make lock`; not for editing.' > requirements.lock
	.lock-env/bin/python -m pip freeze --all --exclude slotcar --exclude pip | grep == | LC_ALL=C sort --ignore-case >> requirements.lock
	rm -rf .lock-env build

clean:
	rm -rf $(VENV) .lock-env build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
