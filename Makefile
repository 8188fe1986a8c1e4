# Python 3.11+ and make are all that a fresh machine needs; everything else is installed here or by the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
DATA ?= penstock-data
PORT ?= 8080

.PHONY: help setup up test test-compose test-keycloak autobahn check format bench bench-eval bench-fanout bench-kafka bench-nexmark bench-rules bench-siddhi soak docs golden golden-plans clean

help: ## this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## the virtual environment from the hash-pinned lock

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Penstock needs Python 3.11 or newer; try: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: $(STAMP) ## everything in one process, with both examples on real data
	@$(BIN)/penstock up examples/produce-markets examples/earthquakes --sample --data $(DATA) --port $(PORT)

test: $(STAMP) ## the whole suite, first the parts, then real processes; says what was skipped and why
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/system --ignore=tests/ledger
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/ledger tests/system

test-compose: $(STAMP) ## the compose files for real: healthy, the tour, containers killed and replaced, data kept
	PENSTOCK_TEST_COMPOSE=1 PENSTOCK_TEST_REQUIRE=docker $(BIN)/python -m pytest tests/container

autobahn: $(STAMP) ## every case of the Autobahn suite against our WebSockets, a quarter of an hour; needs Python 2.7
	PYTHONPATH=tests $(BIN)/python -m publish.autobahn_suite

test-keycloak: $(STAMP) ## tokens of a real Keycloak on everything that takes tokens; needs Java 17 and, the first time, Maven
	PENSTOCK_TEST_KEYCLOAK=1 PENSTOCK_TEST_REQUIRE=keycloak $(BIN)/python -m pytest --timeout 600 tests/keycloak

check: $(STAMP) ## ruff, mypy, import rules, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m penstock_app.documents --check

format: $(STAMP) ## let ruff format and sort
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## write the generated pages again
	$(BIN)/python -m penstock_app.documents

golden: $(STAMP) ## results of a real Apache Flink for golden cases without one (FILES=: these again); needs Java 17
	PYTHONPATH=tests $(BIN)/python -m golden.regenerate $(FILES)

golden-plans: $(STAMP) ## write the printed plans again; read the diff
	PENSTOCK_GOLDEN=write $(BIN)/python -m pytest -q tests/processor

bench: $(STAMP) ## measure section by section, with the spread of a run against itself
	$(BIN)/python -m loadtests.bench

bench-eval: $(STAMP) ## a filter and a window over a file, beside the same written straight in Polars
	$(BIN)/python -m loadtests.bench eval

bench-fanout: $(STAMP) ## many WebSockets: deliveries a second beside websockets' broadcast, idle ones, a stalled one, reconnects
	$(BIN)/python -m loadtests.fanout

bench-kafka: $(STAMP) ## a full topic to store and sockets over a real broker, and each part's share
	$(BIN)/python -m loadtests.kafka_bench

bench-rules: $(STAMP) ## 1,000 rules on one stream, events a second and one event alone, beside rules one by one
	$(BIN)/python -m loadtests.rules_bench

bench-nexmark: $(STAMP) ## Nexmark in Penstock and in a real Flink, a core each, and the ratio; needs Java 17
	PYTHONPATH=tests $(BIN)/python -m loadtests.nexmark.bench

bench-siddhi: $(STAMP) ## a filter, a window, a pattern in Penstock and in Siddhi, a core each; needs a JDK 17, Maven
	$(BIN)/python -m loadtests.siddhi.bench

ARRANGEMENT ?= sqlite
EVENTS ?= 1000000
KILLS ?= 300

soak: $(STAMP) ## the long ledger test, ARRANGEMENT=sqlite|postgres|kafka; EVENTS=, KILLS=, SEED=; into docs/soak.md
	PYTHONPATH=tests $(BIN)/python -m ledger.soak --arrangement $(ARRANGEMENT) --events $(EVENTS) --kills $(KILLS) \
	  $(if $(SEED),--seed $(SEED))

LOAD := .venv-load
USERS ?= 51
SECONDS ?= 30

$(LOAD)/.stamp: requirements/load.txt
	$(PYTHON) -m venv $(LOAD)
	$(LOAD)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/load.txt
	@touch $@

load-%: $(STAMP) $(LOAD)/.stamp ## load-ingest, load-subscribe, load-query: a Locust scenario; USERS=, SECONDS=, URL= with CLIENT=
	$(BIN)/python -m loadtests.locust_run $* --locust $(LOAD)/bin/locust --users $(USERS) --seconds $(SECONDS) \
	  $(if $(URL),--url $(URL) --client $(CLIENT))

clean: ## remove the environment and caches (never the data)
	rm -rf $(VENV) $(LOAD) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
