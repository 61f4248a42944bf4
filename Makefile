# Two commands for a newcomer: `make demo` and `make test`. Everything else serves those who change the code.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUF := .tools/node_modules/.bin/buf
OTLP_SERVER := .tools/node_modules/@elastic/mockotlpserver/package.json
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What `pip` and `npm` put here is rebuilt when these files change.
$(VENV)/.installed: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) .ci/system-packages
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[local,dev]'
	touch $@

$(BUF):
	mkdir -p .tools
	npm install --silent --no-fund --no-audit --prefix .tools @bufbuild/buf@1.75.0

# An OTLP receiver that others wrote, for the tests of traces.
$(OTLP_SERVER):
	mkdir -p .tools
	npm install --silent --no-fund --no-audit --ignore-scripts --prefix .tools @elastic/mockotlpserver@0.10.0

.PHONY: help install otlp-server demo test test-clients clients-tools test-compose lint format protos protos-lint protos-baseline clean
help: ## Say what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

install: $(VENV)/.installed ## Make the virtual environment.

otlp-server: $(OTLP_SERVER) ## Install the OTLP receiver that the tests of traces use.

demo: install ## Start a cluster, deploy a model, chat with it, show how fast it starts. MODEL=DIR uses your own.
	$(BIN)/kindling demo $(if $(MODEL),--source '$(MODEL)')

test: install lint otlp-server ## Run every check that needs no GPU and no Docker.
	# Clusters that are killed and benchmarks leave threads and memory behind: each in a process of its own.
	$(BIN)/pytest --ignore=tests/bench --ignore=tests/faults --ignore=tests/clients
	$(BIN)/pytest tests/bench
	$(BIN)/pytest tests/faults

test-compose: install ## Run the cluster of compose/ on a Docker engine of its own. Needs root and a few minutes.
	$(BIN)/pytest -x -s tests/compose/cluster_on_docker.py

test-clients: install $(BUF) ## Build the clients in other languages and run them against a cluster; says what is missing.
	$(BIN)/pytest tests/clients

clients-tools: ## Install the Debian packages that the clients in other languages are built with.
	clients/install-tools

lint: install protos-lint ## Check style, types, imports and protos.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: install ## Generate Python from protos/.
	$(BIN)/python protos/generate.py

protos-lint: $(BUF)
	cd protos && ../$(BUF) lint && ../$(BUF) breaking --against baseline.binpb

protos-baseline: $(BUF) protos-lint ## Promise clients what the protos say now: done with each release.
	cd protos && ../$(BUF) build --exclude-source-info --output baseline.binpb

clean: ## Remove what was built.
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache
	rm -rf clients/*/build clients/*/gen clients/*/node_modules tests/clients/openai_node/node_modules
