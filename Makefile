.DEFAULT_GOAL := help
.PHONY: help demo test test-quick lint bench bench-postgresql bench-peers docs clean
PYTHON := .venv/bin/python

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## the whole path, end to end: three workers, one killed, its task goes on (under a minute)
	@deploy/venv.sh
	@$(PYTHON) -m analysis.demo

test: ## all tests
	@deploy/venv.sh dev
	@$(PYTHON) -m pytest -q -n 4 --dist worksteal tests

# What needs a server, or many rounds, waits for `make test`.
SLOW := postgresql or Machine or random_flows or rights or any_request or several_dispatchers or overtaken

test-quick: ## the tests that need neither process nor server (half a minute)
	@deploy/venv.sh dev
	@$(PYTHON) -m pytest -q -n 2 -k "not ($(SLOW))" tests/unit tests/store tests/api

lint: ## ruff and mypy
	@deploy/venv.sh dev
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

bench: ## measure speed and size; prints a table
	@deploy/venv.sh dev
	@$(PYTHON) -m analysis.bench

bench-postgresql: ## the same on PostgreSQL: one dispatcher, two, large tables, an old transaction (five minutes)
	@deploy/venv.sh dev
	@$(PYTHON) -m analysis.bench postgresql postgresql_growth

bench-peers: ## measure Celery, Dramatiq, Huey, Procrastinate and RQ in the same run (under ten minutes)
	@deploy/venv.sh
	@$(PYTHON) -m analysis.peers

docs: ## write what is generated: .env, and three pages in docs/
	@deploy/venv.sh
	@$(PYTHON) -m analysis.generate

clean: ## remove .venv and caches; data stays (see ./cleanup.sh --data)
	rm -rf .venv .venv-peers .venv.lock .pytest_cache .mypy_cache .ruff_cache .hypothesis
