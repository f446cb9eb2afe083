# The checks of a change. Needs ./setup.sh --dev.
PYTHON = .venv/bin/python
# Two processes or more: some tests wait more than they compute. NPROC=8 make check chooses.
NPROC ?= auto

.PHONY: test check coverage lint types format docs dist clean

test: ## The fast part, under a minute on two cores
	$(PYTHON) -m pytest -n $(NPROC) -m "not slow"

check: lint types ## All that .ci/run checks
	$(PYTHON) -m pytest -n $(NPROC)

coverage: ## All tests, and which lines they do not reach
	$(PYTHON) -m pytest -n $(NPROC) --cov

lint:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types:
	.venv/bin/mypy

format:
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: ## The table of settings, from the schema
	$(PYTHON) -m numa_bench.config.docs > docs/configuration.md

dist: ## A wheel and a source distribution, in dist/
	$(PYTHON) -m build --no-isolation

clean:
	rm -rf build dist *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache
