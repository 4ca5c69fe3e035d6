# Each command does its own set-up in .venv; nothing is installed twice when it is run again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two processes of one thread each: two threads of torch wait for each other on busy cores.
WORKERS ?= 2

.PHONY: demo test lint bench docs clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Engram needs Python 3.11 or newer" >&2; \
		     echo "  hint: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/engram demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

bench: $(STAMP)
	$(BIN)/python benchmarks/audit_throughput.py

# The site of documentation, into site/; nothing is fetched, and a warning is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site: site/index.html"

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis runs demo site
