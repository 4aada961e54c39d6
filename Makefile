# What the README tells people, and CI calls. A fresh machine has Python 3.11+ with venv, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MINISTACK := .local/ministack/.ready
NODE_MODULES := node_modules/.ready
STAGE ?= dev
PORT ?= 8000
AWS_PORT ?= 4566
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check up deploy destroy bench bench-push-pull clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 17

setup: $(READY) $(MINISTACK) $(NODE_MODULES)  ## install everything that the rest needs

$(VENV)/bin/uv:
	@echo "setting up: the environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

$(READY): requirements.lock $(VENV)/bin/uv
	@echo "setting up: the packages of requirements.lock"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(MINISTACK): local/ministack.lock $(VENV)/bin/uv
	@echo "setting up: ministack, in an environment of its own"
	@$(PYTHON) -m venv .local/ministack
	@$(BIN)/uv pip sync --quiet --python .local/ministack/bin/python --require-hashes local/ministack.lock
	@touch $@

$(NODE_MODULES): package-lock.json $(READY)
	@echo "setting up: the CDK's command line"
	@npm ci --silent --no-audit --no-fund
	@touch $@

demo: setup  ## book one trip and undo another, before your eyes, on a cloud of your own
	@python -m cli.demo

test: setup  ## run the whole test suite
	@python -m pytest --quiet -n 3 --dist loadgroup

check: setup  ## style, types, architecture, compiled files, synthesis with cdk-nag, cfn-lint
	@ruff check .
	@ruff format --check --quiet .
	@mypy
	@lint-imports --no-logo 2>/dev/null || lint-imports
	@recourse compile --check
	@rm -rf .local/check && CI=1 node node_modules/aws-cdk/bin/cdk synth --quiet --no-notices --output .local/check
	@cfn-lint --non-zero-exit-code warning .local/check/*.template.json
	@echo "check: all is well"

up: setup  ## the local cloud in the foreground; PORT= and AWS_PORT= choose where
	@PORT=$(PORT) AWS_PORT=$(AWS_PORT) exec python -m local

deploy: setup  ## cdk deploy to the account that the environment names; STAGE= chooses the stage
	@python -m infra.deploy deploy --context stage=$(STAGE) $(ARGS)

destroy: setup  ## take a stage that keeps no data away from that account, with all it holds
	@python -m infra.deploy destroy --context stage=$(STAGE) $(ARGS)

bench: setup  ## the benchmarks, as tables
	@python -m bench

bench-push-pull: setup  ## push against pull, measured, and written into docs/push-and-pull.md
	@python -m bench.push_pull $(ARGS)

clean:  ## remove what was built and what the local cloud kept
	@rm -rf .local/check .local/cloud .local/demo .local/tests .local/bench cdk.out .mypy_cache .ruff_cache .hypothesis
