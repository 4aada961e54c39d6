# The commands of the README, which CI calls too. They need Python 3.11+ with venv, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/share/recourse/.ready
CONSOLE := recourse/console/index.html
STAGE ?= dev
PORT ?= 8000
AWS_PORT ?= 4566
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)
# Without compiled files every process compiles all that it loads, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-matrix test-wheel check types rules docs up deploy destroy dist bench bench-push-pull clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 17

setup: $(READY) $(TOOLS) $(CONSOLE)  ## install everything that the other targets need

$(VENV)/bin/uv:
	@echo "setting up: the virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

$(READY): requirements.lock $(VENV)/bin/uv
	@echo "setting up: the packages of requirements.lock"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(TOOLS): recourse/local/ministack.lock recourse/cdk/cli/package-lock.json $(READY)
	@python -m recourse.tools
	@touch $@

console/node_modules/.package-lock.json: console/package-lock.json $(READY)
	@echo "setting up: the packages of the console"
	@cd console && npm ci --silent --no-audit --no-fund
	@touch $@

GENERATED := console/src/api/schema.d.ts
PAGE := $(filter-out $(GENERATED),$(wildcard console/*.* console/src/*.* console/src/*/*.* console/src/*/*/*.*))
$(CONSOLE): $(PAGE) lambdas/api/openapi.json console/node_modules/.package-lock.json
	@echo "setting up: the console"
	@cd console && npm run --silent build >build.log 2>&1 || { cat build.log; exit 1; }
	@rm console/build.log

demo: setup  ## run sagas, valet keys and events on a local cloud, and show what happens
	@python -m samples.demo

# A worker that dies ends the run: xdist 3.8 hands out a dead one's groups once more, and waits for ever.
XDIST := --dist loadgroup --max-worker-restart 0

test: setup  ## run the test suite; of the fault matrix a sample
	@python -m pytest --quiet -n 3 $(XDIST) --ignore tests/wheel

test-matrix: setup  ## run the whole fault matrix, and whatever else make test only samples
	@python -m pytest --quiet -n 3 $(XDIST) --whole-matrix -m matrix

test-wheel: setup  ## build the wheel, and begin an app where there is nothing else of this checkout
	@python -m pytest --quiet -n 2 $(XDIST) tests/wheel

check: setup  ## check style, types, architecture, generated files and templates
	@$(MAKE) --no-print-directory --jobs 2 --output-sync types rules
	@echo "check: passed"

# Half of the time of the check, beside the other half.
types: setup
	@mypy

rules: setup
	@ruff check .
	@ruff format --check --quiet .
	@lint-imports --no-logo 2>/dev/null || lint-imports
	@recourse compile --check
	@recourse upgrade --against HEAD
	@statelint --ignore=FLOAT,URI statemachines/*.asl.json
	@python -m tests.reference --check
	@python -m tests.guide
	@rm -rf .local/check && CI=1 node $(VENV)/share/recourse/cdk/node_modules/aws-cdk/bin/cdk synth --quiet --no-notices --output .local/check
	@cfn-lint --non-zero-exit-code warning .local/check/*.template.json

docs: setup  ## build the guide, strictly and offline, into .local/guide/site
	@python -m tests.guide

up: setup  ## run the local cloud in the foreground, on PORT= and AWS_PORT=
	@PORT=$(PORT) AWS_PORT=$(AWS_PORT) exec recourse up

deploy: setup  ## cdk deploy STAGE= to the account of the environment
	@recourse deploy --context stage=$(STAGE) $(ARGS)

destroy: setup  ## delete a stage that does not keep its data, with all its data
	@recourse destroy --context stage=$(STAGE) $(ARGS)

dist: setup  ## build the release: sdist, wheel and bill of materials, the same bytes for the same commit
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) python -m build --no-isolation --outdir dist >dist.log 2>&1 || { cat dist.log; exit 1; }
	@rm dist.log
	@uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements --output-reproducible --output-file dist/recourse-aws.cdx.json recourse/functions/requirements.lock
	@cd dist && sha256sum * | tee SHA256SUMS

bench: setup  ## run the benchmarks and print their tables
	@python -m bench

bench-push-pull: setup  ## measure push against pull, and write docs/push-and-pull.md
	@python -m bench.push_pull $(ARGS)

clean:  ## delete build results and the data of the local cloud
	@rm -rf .local/check .local/guide .local/cloud .local/demo .local/tests .local/bench cdk.out .mypy_cache .ruff_cache .hypothesis
