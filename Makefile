# Everything runs from .venv, made on first use. PYTHON picks the interpreter it is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := dev,raw,jxl
DEMO := .demo

.PHONY: demo test lint types completions bench clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
		{ echo "imgsearch needs Python 3.11 to 3.14; choose one with: make PYTHON=python3.12"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
		{ echo "hnswlib is compiled here and needs a C++ compiler: apt install g++, dnf install gcc-c++, xcode-select --install"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel

# A stale build/ would ship modules that were deleted since.
$(STAMP): pyproject.toml | $(BIN)/python
	rm -rf build
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP)
	@rm -rf $(DEMO)
	@BIN='$(BIN)' DEMO='$(DEMO)' sh bench/demo.sh

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers cannot follow the editable import hook: give them a folder of links.
types: $(STAMP)
	@mkdir -p .dev/imgsearch
	@ln -sfn ../../cli/_package/__init__.py .dev/imgsearch/__init__.py
	@ln -sfn ../../cli/_package/__main__.py .dev/imgsearch/__main__.py
	@ln -sfn ../../cli .dev/imgsearch/cli
	@ln -sfn ../../core .dev/imgsearch/core
	$(BIN)/mypy -p imgsearch

completions: $(STAMP)
	$(BIN)/python bench/completions.py

clean:
	rm -rf $(VENV) $(DEMO) .dev build *.egg-info .mypy_cache .ruff_cache .pytest_cache
