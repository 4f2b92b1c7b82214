# Everything that the project needs is installed into .venv, from requirements.lock, with hashes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Not compiled beforehand: of ninety packages a process needs a few, and Python compiles those when it first loads them.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

IMAGE ?= ringlog:dev

# Test equipment that is no part of the project: a Docker engine and images, and a Kubernetes, where a machine has none.
TESTBED ?= ../shared/testbed/docker
TESTBED_NODE ?= ../shared/testbed/kubernetes/node

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-kubernetes check format image env chart-readme lock clean
.PHONY: bench bench-journal bench-books bench-memory bench-rebuild bench-recordings bench-replay

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
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not containers and not slow and not s3 and not helm and not kubernetes" $(PYTEST_ARGS)

# The equipment is copied because read-only files would be read-only inside of the images, too.
# A node of Kubernetes is built from sources the first time, ten to twenty minutes of two cores: beside the other tests, which
# come first whenever they want a core; after the engine, since two of apt disturb each other. What goes wrong with it is said
# by the tests that need it: they build what is missing.
test-all: $(VENV)/installed ## What `make test` leaves out: containers, S3, long faults, Kubernetes
	@set -e; tools=; build=; \
	trap 'rm -rf "$$tools"; test -z "$$build" || kill $$build 2>/dev/null || true' EXIT; \
	if [ -d $(TESTBED) ]; then \
		tools=$$(mktemp -d); cp -r $(TESTBED)/. $$tools; chmod -R u+w $$tools; \
		export DOCKER_HOST="$$($$tools/ensure-docker)"; \
		$$tools/base-images python:3.13-slim >/dev/null; \
		$$tools/kafka-image >/dev/null; $$tools/postgres-image >/dev/null; $$tools/s3-image >/dev/null; \
		export TESTBED="$$tools"; \
	fi; \
	if [ -x $(TESTBED_NODE) ]; then \
		NICE="nice -n 19" $(TESTBED_NODE) build & build=$$!; \
	fi; \
	$(BIN)/python -m pytest -m "slow or s3" $(PYTEST_ARGS); \
	RINGLOG_TEST_SOURCE=containers $(BIN)/python -m pytest -n 2 --dist loadfile tests/integration tests/containers $(PYTEST_ARGS); \
	wait; build=; \
	$(MAKE) test-kubernetes

test-kubernetes: $(VENV)/installed ## The chart: rendered by Helm, and on the cluster that KUBECONFIG names, or a node of the test equipment
	@set -e; \
	if [ -x $(TESTBED_NODE) ]; then export RINGLOG_TEST_NODE=$(abspath $(TESTBED_NODE)); fi; \
	$(BIN)/python -m pytest -m "helm or kubernetes" tests/helm $(PYTEST_ARGS)

check: $(VENV)/installed ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

image: ## The container image, as ringlog:dev; IMAGE=name:tag names it otherwise
	docker build -t $(IMAGE) --build-arg VERSION=$(lastword $(subst :, ,$(IMAGE))) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

chart-readme: ## The table of values in the chart's README, from the comments of values.yaml
	@$(PYTHON) helm/values_table.py

env: ## The secrets of compose.yaml, new ones in .env, unless it is there; and the folder for prompts and plans
	@mkdir -p config
	@$(PYTHON) image/new_env.py

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

bench-replay: $(VENV)/installed ## The rebuild of the profiles, against a loop that throws all away, and Quix Streams
	$(BIN)/python -m bench.replay

lock: $(VENV)/installed ## Resolve the dependencies anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --all-extras --upgrade pyproject.toml -o requirements.lock

clean: ## Remove what was installed and cached here; the data directory stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
