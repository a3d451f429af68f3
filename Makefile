# make demo   a small cube from simulated scenes, built and extended, with pictures, under build/demo
# make test   every test but the long campaigns, some 20 minutes on two cores
# make fast   some tests of everything, 5 minutes on two cores
# make lint   ruff, mypy, import-linter, codespell and proselint, in the releases of envs/tools.txt
# make docs   the documentation as a site in build/site, which works without a network
# make tutorials  the tutorials of the documentation as they are written, with their pictures in build/tutorials
# make soak   the long kill campaigns, and every test on the other releases of Debian (as root)
# make bench  timings against other tools in one table, under 30 minutes on two cores; fails where a ratio got worse
# make bench-long  every tool, also over a network
# Another Python: make demo PYTHON=/path/to/python3.12 (3.11 or newer)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Modules of another environment would be taken for installed ones, and pip would install elsewhere. `module load gdal` sets the
# last three: the wheels' PROJ and GDAL cannot read the files of others.
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PROJ_DATA PROJ_LIB GDAL_DATA

.PHONY: demo test fast lowest lint docs tutorials soak bench bench-long clean clean-venv

demo: $(VENV)/.installed
	$(BIN)/stac2cube demo build/demo

test: $(VENV)/.installed-test
	tests/setup-services
	-envs/install-arosics $(BIN)/python
	envs/install-torch $(BIN)/python
	tests/run $(BIN)/python

fast: $(VENV)/.installed-test
	tests/setup-services slurm libraries
	envs/install-torch --cpu-only $(BIN)/python
	tests/run $(BIN)/python fast

# The same with the oldest releases that pyproject.toml allows, in an environment of its own, without PyTorch.
lowest:
	envs/make-lowest "$(PYTHON)" build/lowest
	tests/setup-services slurm libraries
	tests/run build/lowest/bin/python fast

# The types of PyTorch's classes are those of PyTorch.
lint: $(VENV)/.installed-test
	envs/install-torch $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --requirement envs/tools.txt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/proselint check --config docs/site/proselint.json *.md findings/README.md docs/*.md docs/tutorials/*.md

# mkdocs' strict mode: a link that leads nowhere, or a parameter that is not there, is an error.
docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --requirement envs/docs.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html is the documentation"

tutorials: $(VENV)/.installed
	mkdir -p build/tutorials
	$(BIN)/python -m tests.tutorials build/tutorials

soak: $(VENV)/.installed-test
	envs/install-torch $(BIN)/python
	$(BIN)/python -m pytest -m soak -s --timeout 7200
	tests/on-debian trixie all || [ $$? = 77 ]
	tests/on-debian forky all || [ $$? = 77 ]

bench: $(VENV)/.installed-test
	$(BIN)/python -W ignore -m tests.bench.side_by_side --write

bench-long: $(VENV)/.installed-test
	envs/install-torch $(BIN)/python
	$(BIN)/python -m tests.bench.reading --picture build/bench/reading.png
	$(BIN)/python -m tests.bench.building --picture build/bench/building.png

# The stamps are older than pyproject.toml or envs/constraints when other releases may be wanted.
PINS := $(wildcard envs/constraints/*.txt)

$(VENV)/.installed: pyproject.toml envs/make-venv $(PINS)
	envs/make-venv "$(PYTHON)" $(VENV)
	touch $@

$(VENV)/.installed-test: pyproject.toml envs/make-venv $(PINS)
	envs/make-venv "$(PYTHON)" $(VENV) test
	touch $(VENV)/.installed $@

clean:
	rm -rf build dist .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis
	find stac2cube tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-venv:
	rm -rf $(VENV)
