# Two commands on a fresh machine: `make demo` and `make test`. Both set up a virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROMPT ?= watercolor map of islands in a turquoise sea
SIZE ?= 2048x2048
OUTPUT ?= output/islands.png

PAGE := src/pixelsmith/viewer/page
VIEWER := $(PAGE)/openseadragon.min.js

.PHONY: demo test setup viewer lint format wheel check-wheel docs clean

setup: $(VENV)/.ready
	@if [ ! -e $(VIEWER) ] && command -v npm >/dev/null; then $(MAKE) viewer; fi

# The page of `pixelsmith view` needs OpenSeadragon; without npm everything else works.
viewer: $(VIEWER)

$(VIEWER): package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --silent
	cp node_modules/openseadragon/LICENSE.txt $(PAGE)/openseadragon-license.txt
	cp node_modules/openseadragon/build/openseadragon/openseadragon.min.js $@

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pixelsmith needs Python 3.11 or newer; run: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,docs]"
	@touch $@

demo: setup
	@mkdir -p $(dir $(OUTPUT))
	$(BIN)/pixelsmith generate "$(PROMPT)" --preset fast --size $(SIZE) --output $(OUTPUT) --overwrite
	@echo "The picture is at $(abspath $(OUTPUT))"

# A process for each core, each with one thread: many tests are short, and two pools of threads would fight.
# Slow files come first, as tests/conftest.py sorts them.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup viewer
	$(BIN)/python -m build --wheel

# The wheel alone, in a clean environment: does it make a picture?
check-wheel: wheel
	.ci/wheel

# The documentation site, in build/site: links are checked, nothing is fetched.
docs: setup
	$(BIN)/python -m website.build

clean:
	rm -rf $(VENV) node_modules dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache
