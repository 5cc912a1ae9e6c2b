# Every target uses .venv, which is created on first use. PYTHON sets its interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := dev,browser,raw,jxl,parquet,places,ocr,video
DEMO := .demo
# An environment without torch, which `make light` and the targets after it use. Same rules, same Python.
LIGHT := .light
LIGHT_TESTS := $(patsubst %,tests/test_%.py,light model_file requirements query_cmd similar)

.PHONY: demo light demo-light test test-long test-light lint types completions manual bench bench-long clean

$(BIN)/python $(LIGHT)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
		{ echo "imgsearch needs Python 3.11 to 3.14; choose one with: make PYTHON=python3.12"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
		{ echo "hnswlib is compiled here and needs a C++ compiler: apt install g++, dnf install gcc-c++, xcode-select --install"; exit 1; }
	$(PYTHON) -m venv $(@:/bin/python=)
	$@ -m pip install --quiet --upgrade pip

# A stale build/ would install modules that have been deleted.
$(STAMP): pyproject.toml | $(BIN)/python
	rm -rf build
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@

$(LIGHT)/.libraries: requirements/light.txt | $(LIGHT)/bin/python
	$(LIGHT)/bin/python -m pip install --quiet --requirement $<
	@touch $@

# Installed, not linked, so that the tests run what a user gets.
$(LIGHT)/.installed: pyproject.toml $(LIGHT)/.libraries $(shell find cli core -type f ! -name '*.pyc')
	rm -rf build
	$(LIGHT)/bin/python -m pip install --quiet --no-deps --force-reinstall .
	rm -rf build
	@touch $@

$(LIGHT)/.tested: requirements/light-tests.txt $(LIGHT)/.libraries
	$(LIGHT)/bin/python -m pip install --quiet --requirement $<
	@touch $@

light: $(LIGHT)/.installed
	@echo "$(LIGHT)/bin/imgsearch is ready: $$(du -sm $(LIGHT) | cut -f 1) MB on disk, without torch"

# Indexes the sample album in its own folder, then runs one query of each kind. Needs no network.
demo: $(STAMP)
demo-light: $(LIGHT)/.installed
demo-light: BIN := $(LIGHT)/bin
demo demo-light:
	@rm -rf $(DEMO)
	@set -e; run() { echo; echo "\$$ imgsearch $$*"; HF_HUB_OFFLINE=1 $(BIN)/imgsearch "$$@" --index $(DEMO); }; \
	run index tests/album --model builtin; \
	run query a red apple -n 3; \
	run query tests/album/lemon.jpg -n 3; \
	run query "in a carton like tests/album/orange.jpg" -n 3; \
	run status; \
	echo; echo "The index is in $(DEMO)/. Try more queries: $(BIN)/imgsearch query --index $(DEMO) WORDS..."

# One process per core. For a single file: .venv/bin/python -m pytest tests/test_grammar.py
# test-long runs for hours, with many more kills, disk faults, damaged pictures and random examples.
test test-long: $(STAMP)
	$(if $(filter test-long,$@),IMGSEARCH_TEST_LONG=1) $(BIN)/python -m pytest \
		--numprocesses auto --dist loadfile --no-loadscope-reorder

# In an environment that has never seen torch: tests of what works without it.
test-light: $(LIGHT)/.installed $(LIGHT)/.tested
	$(LIGHT)/bin/python -m pytest --numprocesses 2 --dist worksteal -p no:cacheprovider $(LIGHT_TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers cannot follow the editable import hook, so give them a folder of links.
types: $(STAMP)
	@mkdir -p .dev/imgsearch
	@ln -sfn ../../cli/_package/__init__.py .dev/imgsearch/__init__.py
	@ln -sfn ../../cli/_package/__main__.py .dev/imgsearch/__main__.py
	@ln -sfn ../../cli .dev/imgsearch/cli
	@ln -sfn ../../core .dev/imgsearch/core
	$(BIN)/mypy -p imgsearch

completions: $(STAMP)
	$(BIN)/imgsearch --show-completion bash >completions/imgsearch
	$(BIN)/imgsearch --show-completion zsh >completions/_imgsearch
	$(BIN)/imgsearch --show-completion fish >completions/imgsearch.fish

# With the pages of help.
manual: $(STAMP)
	$(BIN)/imgsearch --show-manual >docs/imgsearch.1
	$(BIN)/python -m imgsearch.cli.help_pages >cli/help.txt

# Compares with rclip, which is installed into its own environment in .bench/ (3 GB). Takes a quarter of an hour on an
# idle machine. DATA=FOLDER uses about 1,000 small photos of your own. bench-long: a million vectors, an hour, 15 GB.
bench bench-long: $(STAMP)
	$(BIN)/python bench/peers/setup.py
	$(BIN)/python bench/compare.py $(if $(filter bench-long,$@),--long) $(if $(DATA),--data '$(DATA)')

clean:
	rm -rf $(VENV) $(LIGHT) $(DEMO) .bench .dev build *.egg-info .mypy_cache .ruff_cache .pytest_cache
