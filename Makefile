# All of it works on a machine that has only Python 3.11 (or newer) and make: each target first sees to .venv.
#
#   make run      install, then start a demo model, authz and a real Envoy in front; ARGS="--port 8081" for more
#   make test     every test, with the real gateways
#   make lint     ruff, mypy, import-linter
#   make check    lint and test
#   make bench    measure (docs/performance.md); ARGS="--only grpc" for a part
#   make bench-peers  build what it compares with
#   make soak     the long tests, and those of Redis on a newer one than the wheel's 6.2: a redis-server or
#                 valkey-server of at least version 7 on the PATH, or AUTHZ_REDIS_SERVER=/path/to/it; and h2spec and
#                 ghz, by `go install`, on the PATH, or AUTHZ_H2SPEC=/path/to/it and AUTHZ_GHZ=/path/to/it

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Tests at a time. Three on two processors: a third of their time they wait for gateways.
JOBS ?= 3
ROUNDS := AUTHZ_REPLICA_ROUNDS=100 AUTHZ_ROLLING_RESTARTS=100
IN_ROUNDS := tests/acceptance/test_replicas.py tests/acceptance/test_replicas_ahead.py tests/acceptance/test_rolling_restarts.py
ON_REDIS := tests/contract tests/redis tests/acceptance/test_store_trouble.py tests/acceptance/test_failover.py $(IN_ROUNDS)
NEWER_REDIS := $(BIN)/python -m tests.support.redis_binary

.PHONY: run test lint check bench bench-peers soak install
.NOTPARALLEL:

run: $(INSTALLED)
	@$(BIN)/authz up --demo $(ARGS)

test: $(INSTALLED)
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(INSTALLED)
	$(BIN)/python -m bench $(ARGS)

bench-peers: $(INSTALLED)
	$(BIN)/python -m bench.peers

soak: $(INSTALLED)
	AUTHZ_REDIS_SERVER="$$($(NEWER_REDIS))" && export AUTHZ_REDIS_SERVER && \
		$(BIN)/pytest -n 2 --dist loadfile $(ON_REDIS) $(ARGS)
	$(ROUNDS) $(BIN)/pytest tests/soak $(IN_ROUNDS) $(ARGS)

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(if $(PYTHON),,$(error Python 3.11 or newer is needed; install it, or name it: make PYTHON=/path/to/python3))
	@echo "installing into $(VENV); this takes a minute" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
