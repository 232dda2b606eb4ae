# The two commands to begin with are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# older DuckDBs, which have to open the published copy
READERS := 1.2.2 1.4.4 1.5.0

.PHONY: demo run ui real test check crash torture fuzz bench bench-attribution bench-identity evaluate \
	evaluate-matching table-map countries fmt lint types lock readers sdk-clients

demo: $(VENV)/run.stamp
	$(BIN)/rekindle demo

run: $(VENV)/run.stamp
	$(BIN)/rekindle run

ui: $(VENV)/run.stamp
	$(BIN)/rekindle ui

real: $(VENV)/dev.stamp
	REKINDLE_HOME=$${REKINDLE_HOME:-.rekindle-real} $(BIN)/rekindle real
	REKINDLE_HOME=$${REKINDLE_HOME:-.rekindle-real} $(BIN)/rekindle run --as-of 2018-01-01

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: lint types test

# thirty runs killed at random moments: an hour
crash: $(VENV)/dev.stamp
	$(BIN)/python -m tests.crash

# a thousand deliveries killed at every call: ten minutes
torture: $(VENV)/dev.stamp
	$(BIN)/python -m tests.torture

bench: $(VENV)/dev.stamp
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench_scores

# beside another library, in an environment of its own
bench-attribution: $(VENV)/dev.stamp
	$(BIN)/python -m tests.bench_attribution

bench-identity: $(VENV)/dev.stamp
	$(BIN)/python -m tests.bench_identity

# purchases of a real customer base, e.g. make evaluate PURCHASES=online_retail.parquet
evaluate: $(VENV)/dev.stamp
	$(BIN)/python -m tests.evaluate_scores $(PURCHASES)

evaluate-matching: $(VENV)/dev.stamp
	$(BIN)/python -m tests.evaluate_matching

# docs/tables.md, from the models' descriptions
table-map: $(VENV)/dev.stamp
	$(BIN)/python -m tests.table_map

# what countries are called and called by, from CLDR and libphonenumber
countries: $(VENV)/dev.stamp
	$(BIN)/python -m tests.countries

# malformed lines and files through two runs, e.g. make fuzz SEED=7 LINES=1000 FILES=50
SEED ?= 1
LINES ?= 10000
FILES ?= 500
fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.fuzz --seed $(SEED) --lines $(LINES) --files $(FILES)

# clients of other makers, for the test that lands what they send
SDK := .sdk-clients
sdk-clients: $(SDK)/stamp

$(SDK)/stamp: tests/sdk/requirements.txt tests/sdk/package.json $(VENV)/uv.stamp
	mkdir -p $(SDK)
	cp tests/sdk/package.json $(SDK)/
	$(UV) venv --quiet --clear $(SDK)/python
	VIRTUAL_ENV=$(SDK)/python $(UV) pip install --quiet -r tests/sdk/requirements.txt
	cd $(SDK) && npm install --silent --ignore-scripts --no-audit --no-fund --no-package-lock
	touch $@

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/sqlfluff lint models dbt_project/tests --processes 2

types: $(VENV)/dev.stamp
	$(BIN)/mypy

fmt: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix models dbt_project/tests --processes 2

lock: $(VENV)/uv.stamp
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header pyproject.toml -o requirements.txt
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header pyproject.toml --group dev --extra real --extra match \
		--extra mcp -c requirements.txt -o requirements-dev.txt

readers: $(READERS:%=$(VENV)/readers/%.stamp)

$(VENV)/readers/%.stamp: $(VENV)/uv.stamp
	$(UV) venv --quiet --clear --python $(BIN)/python $(VENV)/readers/$*
	VIRTUAL_ENV=$(VENV)/readers/$* $(UV) pip install --quiet duckdb==$*
	touch $@

# uv installs the pinned wheels several times faster than pip; pip installs uv.
# Bytecode is compiled once here, not by each of the processes that a run starts.
$(VENV)/uv.stamp:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	touch $@

$(VENV)/run.stamp: requirements.txt pyproject.toml $(VENV)/uv.stamp
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --editable .
	touch $@

$(VENV)/dev.stamp: requirements-dev.txt pyproject.toml $(VENV)/run.stamp
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements-dev.txt
	touch $@
