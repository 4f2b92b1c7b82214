# Everything that the project needs is installed into .venv, from requirements.lock, with hashes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Not compiled beforehand: of ninety packages a process needs a few, and Python compiles those when it first loads them.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

# Test equipment that is no part of the project: a Docker engine and images, where a machine has none.
TESTBED ?= ../shared/testbed/docker

.DEFAULT_GOAL := help
.PHONY: help run test test-all check format bench bench-journal bench-books bench-memory bench-rebuild bench-recordings lock clean

help: ## What can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ringlog needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what requirements.lock names into $(VENV); the first time takes a minute or two ..."
	@$(PIP) install --no-compile --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

run: $(VENV)/installed ## Everything on this machine: Kafka, the service, the consumers. Ctrl-C stops it
	@exec $(BIN)/ringlog up

test: $(VENV)/installed ## The tests, against a real broker and a real PostgreSQL; needs only Python
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not containers and not slow and not s3" $(PYTEST_ARGS)

# The equipment is copied because read-only files would be read-only inside of the images, too.
test-all: $(VENV)/installed ## What `make test` leaves out: containers, S3, long faults
	@set -e; \
	if [ -d $(TESTBED) ]; then \
		tools=$$(mktemp -d); cp -r $(TESTBED)/. $$tools; chmod -R u+w $$tools; \
		export DOCKER_HOST="$$($$tools/ensure-docker)"; \
		$$tools/kafka-image >/dev/null; $$tools/postgres-image >/dev/null; $$tools/s3-image >/dev/null; \
		export TESTBED="$$tools"; trap 'rm -rf "$$tools"' EXIT; \
	fi; \
	$(BIN)/python -m pytest -m "slow or s3" $(PYTEST_ARGS); \
	RINGLOG_TEST_SOURCE=containers $(BIN)/python -m pytest tests/integration tests/containers $(PYTEST_ARGS)

check: $(VENV)/installed ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed ## Measured against the alternatives, in one run
	$(BIN)/python -m bench.webhooks

bench-journal: $(VENV)/installed ## How events become durable, against one send_and_wait a request, and through an outage
	$(BIN)/python -m bench.journal

bench-books: $(VENV)/installed ## Billing and transcripts on PostgreSQL, against one event, one transaction
	$(BIN)/python -m bench.books

bench-memory: $(VENV)/installed ## The memory of a consumer over a million events
	$(BIN)/python -m bench.memory

bench-rebuild: $(VENV)/installed ## Prefetches beside a rebuild of the state, and what a rebuild needs
	$(BIN)/python -m bench.rebuild

bench-recordings: $(VENV)/installed ## Fifty downloads at once, against a bare download of the same sounds
	$(BIN)/python -m bench.recordings

lock: $(VENV)/installed ## Resolve the dependencies anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --all-extras --upgrade pyproject.toml -o requirements.lock

clean: ## Remove what was installed and cached here; the data directory stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
