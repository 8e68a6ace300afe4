# make demo, make test, make test-all, make test-attack, make lint, make docs, make bench: each makes what it needs first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Constraints hold for build environments as well.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all test-attack lint docs bench clean

demo: $(VENV)/installed
	$(BIN)/sottovoce demo

# A file runs in one process, for its fixtures; the longest are begun first (tests/conftest.py), not those of most tests.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --durations 25

# The tests marked `slow` too, and more examples of those that draw them.
test-all: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --hypothesis-profile thorough -m "slow or not slow"

# Damaged and hostile models, many more than `test` tries: CASES, SEED, or ONLY=KIND/MODEL/NAME, which may be a pattern.
CASES ?= 1200
SEED ?= 20260
test-attack: $(VENV)/installed-dev
	PYTHONPATH=tests $(BIN)/python -m attack --cases $(CASES) --seed $(SEED) $(if $(ONLY),--only '$(ONLY)')

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages that come from the code, and the tables that come from committed results.
docs: $(VENV)/installed-dev
	$(BIN)/python docs/generate.py --write
	$(BIN)/python benchmarks/bundled_table.py --write
	$(BIN)/python benchmarks/rounding_table.py --write
	$(BIN)/python benchmarks/clip_memory.py --write
	$(BIN)/python benchmarks/exported_onnx_table.py --write
	$(BIN)/python benchmarks/exported_aligner_table.py --write
	$(BIN)/python benchmarks/exported_towers_table.py --write
	$(BIN)/python benchmarks/omni_table.py --write
	$(BIN)/python benchmarks/pruned_table.py --write
	$(BIN)/python benchmarks/searched_table.py --write
	$(BIN)/python benchmarks/distilled_table.py --write
	$(BIN)/python benchmarks/large_tables.py --write
	$(BIN)/python benchmarks/attacks_table.py --write
	$(BIN)/python benchmarks/exported_table.py --write

# Models of real size, with the tables of them; omni_moe.py, which writes tens of GB, is run by itself.
RESULTS := benchmarks/results-committed
bench: $(VENV)/installed
	$(BIN)/python benchmarks/paraformer_large.py --json $(RESULTS)/paraformer_large.json
	$(BIN)/python benchmarks/busy_machine.py --json $(RESULTS)/busy_machine.json
	$(BIN)/python benchmarks/transcribe.py --json $(RESULTS)/transcribe.json
	$(BIN)/python benchmarks/forced_aligner.py --json $(RESULTS)/forced_aligner.json
	$(BIN)/python benchmarks/pruned_large.py --json $(RESULTS)/pruned_large.json
	$(BIN)/python benchmarks/large_tables.py --write

clean:
	rm -rf $(VENV) .venv-* outputs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# pip compiles all modules: one that is compiled when it is first imported warns there of what its source has.
INSTALL := $(BIN)/pip install --quiet

$(VENV)/installed: $(VENV)/bin/python requirements.txt constraints.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(INSTALL) -r requirements-dev.txt
	touch $@
