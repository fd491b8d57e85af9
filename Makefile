# `make quickstart` teaches a small model sums, `make test` runs every test; both set up .venv first and may be repeated.
# Variables: VENV=path of the environment, PYTHON=interpreter to make it with, ARGS=more arguments for the command.

VENV ?= .venv
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python,$(shell \
	$(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
BIN := $(VENV)/bin

.PHONY: help setup extras quickstart test test-quick lint format bench clean

help:
	@echo "make quickstart   set up, then teach a small model sums, by example and by trial: three minutes on the CPU"
	@echo "make test         set up, then run every test (test-quick: without the slow ones)"
	@echo "make lint         ruff, mypy and ostinato lint"
	@echo "make bench        time ostinato beside its peers; results are appended to docs/log.md"
	@echo "make setup        only set up $(VENV)"
	@echo "make extras       optional packages too: sweeps, trackers, more kinds of files; their tests are no longer skipped"

setup: $(VENV)/.installed

# Installed again only when the lock or pyproject.toml changes. torch comes first and by itself, so that no other
# package's wish for a torch can choose another one.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "ostinato needs Python 3.11 or newer and found none. \
	Install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.version_info >= (3, 11) or sys.exit("ostinato needs Python 3.11 or newer; \
	$(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=/path/to/python3.11")'
	test -x "$(BIN)/python" || "$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check -r requirements.lock
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch "$@"

extras: setup
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-extras.lock

quickstart: setup
	"$(BIN)/ostinato" train configs/experiments/addition_sft.yaml configs/experiments/addition_grpo.yaml --resume $(ARGS)

# Each process computes with one thread, so that as many as there are cores do not stand in each other's way.
PYTEST = OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n auto --maxprocesses 8 --dist loadfile

test: setup
	$(PYTEST) $(ARGS)

test-quick: setup
	$(PYTEST) -m "not slow" $(ARGS)

lint: setup
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/ostinato" lint

format: setup
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

bench: setup
	"$(BIN)/python" -m benchmarks $(ARGS)

clean:
	rm -rf "$(VENV)" build dist .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
