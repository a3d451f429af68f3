# make demo   a small cube from simulated scenes, built and extended, with pictures, under build/demo
# make test   everything that the tests, ruff and mypy say
# make soak   the long kill campaigns
# make bench  timings against other tools
# Another Python: make demo PYTHON=/path/to/python3.12 (3.11 or newer)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test soak bench lint clean clean-venv

demo: $(VENV)/.installed
	$(BIN)/stac2cube demo build/demo

test: $(VENV)/.installed-test lint
	tests/setup-services
	-envs/install-arosics $(BIN)/python
	tests/run $(BIN)/python

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m soak -s --timeout 7200

bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.bench.reading --picture build/bench/reading.png
	$(BIN)/python -m tests.bench.building --picture build/bench/building.png

# The stamps are older than pyproject.toml when the requirements may have changed.
$(VENV)/.installed: pyproject.toml envs/make-venv
	envs/make-venv "$(PYTHON)" $(VENV)
	touch $@

$(VENV)/.installed-test: pyproject.toml envs/make-venv
	envs/make-venv "$(PYTHON)" $(VENV) test
	touch $(VENV)/.installed $@

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find stac2cube tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-venv:
	rm -rf $(VENV)
