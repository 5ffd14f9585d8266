PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# one single-threaded process per core
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

FUZZ ?= 1200
SCALE ?= tiny
# the table conf/paper/<citekey>/<name>.yaml by its name
table = $(patsubst conf/paper/%.yaml,%,$(or $(wildcard conf/paper/*/$(1).yaml),$(error no table $(1) in conf/paper)))

.DEFAULT_GOAL := help
.PHONY: help setup quickstart tables tables-small results results-other-seeds report test test-norms test-fuzz test-versions test-mutants mutants-sample test-crash test-soak test-slurm test-slow test-latex docs site check lint type fmt clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Install into .venv, editable, with the tools for development

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

quickstart: setup ## Reproduce a paper table on real digits: about two minutes on a laptop
	$(BIN)/normbench reproduce wu2018/batch_size scale=tiny

test: setup ## Run the tests that take seconds each; those for a GPU are skipped without one
	$(TEST) -m 'not slow'

test-norms: setup ## Train one small network per norm and weight map on real digits
	$(TEST) tests/test_every_method_learns.py

test-mutants: setup ## Plant bugs, one at a time, and see whether the tests catch them: half an hour
	$(BIN)/python scripts/mutants.py run tests/mutants/planted.yaml tests/mutants/sampled.yaml

mutants-sample: setup ## Plant a few bugs, always the same ones: half a minute; the tests must have passed
	$(BIN)/python scripts/mutants.py run tests/mutants/planted.yaml --sample 4 --trust

test-crash: setup ## Kill training 200 times at random moments, and count what is lost, torn, double or orphaned
	OMP_NUM_THREADS=1 $(BIN)/python scripts/crash.py $(or $(N),200)

test-soak: setup ## Train 2,000 tiny runs in one sweep: memory and time per run must stay flat; N=n sets their number
	OMP_NUM_THREADS=1 $(BIN)/python scripts/soak.py $(or $(N),2000)

test-fuzz: setup ## Try 1,200 random command lines and configuration files: ten minutes; FUZZ=n sets their number
	NORMBENCH_FUZZ=$$(( ($(FUZZ) + 1) / 2 )) OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_fuzz.py

test-slurm: setup ## Submit sweeps to a real Slurm of one node; root gets Debian's Slurm if it is missing
	@command -v slurmctld > /dev/null || { test "$$(id -u)" = 0 && apt-get update -q && \
	  apt-get install -y --no-install-recommends slurm-wlm munge; } || \
	  { echo "needs root and Slurm: install slurm-wlm and munge"; exit 1; }
	@folder=$$(mktemp -d) && scripts/one_node_slurm.sh start $$folder && { \
	  NORMBENCH_SLURM=$$folder $(BIN)/python -m pytest tests/test_slurm.py; code=$$?; \
	  scripts/one_node_slurm.sh stop $$folder; exit $$code; }

test-versions: ## Run a short set of tests with the oldest torch that we support and the newest: gigabytes, a quarter of an hour
	$(PYTHON) scripts/test_versions.py

test-slow: setup ## Run all tests, those that take minutes too
	$(TEST)

test-latex: setup ## Compile the LaTeX of all tables; root gets Debian's TeX if it is missing
	@command -v pdflatex > /dev/null || { test "$$(id -u)" = 0 && apt-get update -q && \
	  apt-get install -y --no-install-recommends texlive-latex-base texlive-latex-recommended; } || \
	  { echo "needs pdfLaTeX: install texlive-latex-base and texlive-latex-recommended"; exit 1; }
	$(BIN)/python -m pytest tests/report/test_latex.py

check: lint type test ## All that must pass before a change is ready

lint: setup ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup ## Check types
	$(BIN)/mypy

fmt: setup ## Mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Make docs/NORMS.md from the docstrings, and the lists of README.md and mkdocs.yml from the registries
	$(BIN)/normbench norms --format md > docs/NORMS.md
	$(BIN)/python scripts/readme_lists.py

site: setup ## Build the documentation site in build/site, without a network
	$(BIN)/python scripts/site_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python scripts/site_pages.py build/pages --into build/site
	@echo "build/site/index.html"

table-%: setup ## Reproduce one table, such as table-batch_size; SCALE=tiny (default), small or full
	$(BIN)/normbench reproduce $(call table,$*) scale=$(SCALE)

tables: setup ## Reproduce all tables on real digits: a quarter of an hour on 2 cores; finished runs are read
	$(BIN)/normbench reproduce --all scale=tiny

tables-small: setup ## Reproduce all tables on MNIST and CIFAR-10: for a GPU
	$(BIN)/normbench reproduce --all scale=small

results: setup ## Make the committed evidence of the paper tables, in results/reference
	NORMBENCH_RESULTS=$$(mktemp -d) $(BIN)/normbench reproduce --all scale=tiny --out results/reference

results-other-seeds: setup ## The same with seeds from 1000 on, which set no margin, in results/reference/other_seeds
	NORMBENCH_RESULTS=$$(mktemp -d) $(BIN)/normbench reproduce --all scale=tiny seed_offset=1000 --out results/reference/other_seeds

report: setup ## Make pages of all tables with finished runs, in results/report
	$(BIN)/normbench report

clean: ## Remove what tools left behind; results and .venv stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache src/*.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
