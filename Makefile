# Every target sets up what it needs in .venv; a second run starts in seconds.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test simulate test-superset test-kafka test-faults check lint types format docs bench bench-identity bench-bi bench-restore soak lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | column -t -s '|'

demo: .venv/local.stamp  ## run the main job on the embedded broker and ClickHouse, and report
	@$(BIN)/touchstream demo

# By files, the long ones with servers first, so that no process is left alone with one at the end.
test: .venv/dev.stamp  ## run every test, in two processes: JOBS=4 for more
	@$(BIN)/python -m pytest -n $(or $(JOBS),2) --dist loadfile --no-loadscope-reorder

test-superset: .venv/dev.stamp .venv-superset/stamp  ## try Apache Superset, in .venv-superset, on the embedded ClickHouse
	@$(BIN)/python -m pytest tests/superset

ON_KAFKA = KAFKA_VERSION=$(KAFKA) $(BIN)/python -m pytest $(if $(ALL),,-m "not long")
test-kafka: .venv/dev.stamp  ## run the product on Apache Kafka, which Maven fetches: ALL=1 for every test, KAFKA=4.3.1 for another version
	@$(ON_KAFKA) tests/kafka
	@$(ON_KAFKA) --broker kafka3 tests/integration/test_end_to_end.py tests/integration/test_single_writer.py
	@$(ON_KAFKA) --broker kafka1 tests/integration/test_golden.py tests/integration/test_erasure.py
	@$(if $(ALL),$(ON_KAFKA) --broker kafka1 tests/integration/test_end_to_end.py tests/integration/test_single_writer.py)
	@$(if $(ALL),$(ON_KAFKA) --broker kafka1 tests/integration/test_febrl.py)

simulate: .venv/dev.stamp  ## run the simulator: SEEDS=10000, or SEED=123 to see what happens in one
	@$(BIN)/python tests/simulation/simulate.py $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) $(ARGS)

test-faults: .venv/dev.stamp  ## the fault tests of docs/reliability.md: BROKER=kafka1 or kafka3 for Apache Kafka, SEED=2 for other schedules, ALL=1 for the long ones
	@$(BIN)/python -m pytest tests/faults --broker $(or $(BROKER),embedded) --seed $(or $(SEED),1) $(if $(ALL),,-m "not long")

check: lint types  ## lint and types

lint: .venv/dev.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/dev.stamp
	@$(BIN)/mypy -p touchstream.streams -p touchstream.agents -p touchstream.schemas
	@MYPYPATH=tests/simulation:tests/kafka:tests/faults $(BIN)/mypy tests benchmarks

format: .venv/dev.stamp  ## format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

docs: .venv/dev.stamp  ## write docs/metrics.md from the metric catalogue
	@$(BIN)/python -m touchstream.streams.metric_docs > docs/metrics.md

BENCH = PYTHONPATH=tests/kafka $(BIN)/python -m benchmarks
bench: .venv/local.stamp  ## events per second and latency of the whole stack on this machine, on BROKER=kafka1 or embedded
	@$(BENCH).stages
	@$(BENCH).pipeline --broker $(or $(BROKER),embedded)

bench-identity: .venv/local.stamp  ## what a new link between identities costs: LARGEST=1 for 1,000,000 identities
	@$(BIN)/python benchmarks/identity.py $(if $(LARGEST),--largest)

bench-bi: .venv/local.stamp  ## how long the questions of docs/bi.md take: NUMBER=300000 for fewer touchpoints
	@$(BIN)/python -m benchmarks.bi $(if $(NUMBER),--number $(NUMBER))

bench-restore: .venv/local.stamp  ## from the start of a worker to its first results, with 1,000,000 keys of state: KEYS=100000 for fewer
	@$(BIN)/python -m benchmarks.restore $(if $(KEYS),--keys $(KEYS))

soak: .venv/local.stamp  ## a steady load for MINUTES=30 at RATE=1000 a second by CUSTOMERS=20000, on BROKER=kafka1 or embedded: memory, lag and age of commits
	@$(BENCH).soak --broker $(or $(BROKER),embedded) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RATE),--rate $(RATE)) $(if $(CUSTOMERS),--customers $(CUSTOMERS))

demo-kill: .venv/local.stamp  ## the demo while workers are killed: KILLS=10 WORKERS=1
	@$(BIN)/python benchmarks/kill_workers.py --kills $(or $(KILLS),10) --workers $(or $(WORKERS),1)

lock: .venv/dev.stamp  ## pin all dependencies anew
	@$(PIP) install uv==0.13.9
	@for extra in "runtime" "local --extra local" "dev --extra local --extra dev"; do set -- $$extra; name=$$1; shift; \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $$* pyproject.toml -o requirements/$$name.txt; done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes requirements/superset.in -o requirements/superset.txt

clean:  ## remove the environment and all local state
	rm -rf .venv .venv-superset .touchstream .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "touchstream needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/%.stamp: requirements/%.txt pyproject.toml | .venv/bin/python
	@echo "installing $* packages into .venv ..."
	@$(PIP) install --require-hashes -r requirements/$*.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

# Apart from .venv: Superset needs SQLAlchemy 1.4 and older pandas and numpy.
.venv-superset/stamp: requirements/superset.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "Superset needs Python 3.11 or 3.12; say which: make test-superset PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing Superset into .venv-superset ..."
	@$(PYTHON) -m venv .venv-superset
	@.venv-superset/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/superset.txt
	@touch $@
