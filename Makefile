# telbridge: the day-to-day commands. Each works on a fresh clone; what is there already is not made again.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
INTEROP := .venv-interop
# A whole Debian sid with Asterisk, for `make interop`; kept for the next clone.
ASTERISK ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/telbridge/asterisk
# A telbridge whose hot modules are C; whoever runs it must not find the interpreted one first.
COMPILED := build/compiled
AS_COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED):$(CURDIR)
BENCH  ?=
MINUTES ?= 10
CALLS  ?=
DIALPLANS ?= dialplans/receptionist.toml

.DEFAULT_GOAL := help
.PHONY: help setup run demo test lint types unit interop grafana pjsua2 compiled bench soak clean

help: ## this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.run ## the virtual environment with what `make run` needs

run: $(VENV)/.run ## answer calls on SIP port 5060 (UDP and TCP) with dialplans/receptionist.toml
	TELBRIDGE__DIALPLANS__FOLDER=$(DIALPLANS) $(BIN)/telbridge serve

demo: $(VENV)/.run ## start everything, place a call that holds a short conversation, print what was said and when
	$(BIN)/telbridge demo

test: $(VENV)/.run ## everything that CI runs: lint, types, import rule, all tests on both pjsua2 builds
	$(MAKE) --no-print-directory -j2 --output-sync=target lint types pjsua2
	$(MAKE) --no-print-directory unit

lint: $(VENV)/.dev ## ruff and the import rule
	$(BIN)/ruff check telbridge tests bench scripts
	$(BIN)/ruff format --check telbridge tests bench scripts
	$(BIN)/lint-imports

types: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy

unit: $(VENV)/.dev ## the tests alone, those with real calls in two lanes
	TELBRIDGE_REQUIRE_BUILT=$(TELBRIDGE_REQUIRE_BUILT) scripts/run-tests.sh $(BIN)/pytest $(WITH_COMPILED)

interop: $(INTEROP)/.run ## against programs of other people's making: Asterisk, Chromium, pipecat (as root; 12 minutes, 5 more the first time)
	scripts/system-packages.sh interop
	test -x $(ASTERISK)/usr/sbin/asterisk || scripts/interop-asterisk.sh make $(ASTERISK)
	TELBRIDGE_ASTERISK=$(ASTERISK) $(INTEROP)/bin/python -m pytest tests/interop

grafana: $(VENV)/.dev ## the dashboards of grafana/, made anew from scripts/dashboards
	$(BIN)/python -m scripts.dashboards

pjsua2: $(VENV)/.run ## build the pjsua2 without the cap of four calls (2 to 4 minutes, once a machine)
	env -u MAKEFLAGS -u MFLAGS scripts/build-pjsua2.sh $(BIN)/python

compiled: $(COMPILED)/.made ## the way of a frame compiled to C, as for production (docs/operations.md; 2 minutes)

bench: $(VENV)/.bench pjsua2 compiled ## the figures of the README, measured on this machine (about 20 minutes)
	$(AS_COMPILED) $(BIN)/python -m bench $(BENCH)

soak: $(VENV)/.bench pjsua2 compiled ## MINUTES=10 of calls with all kinds of endings, at half the knee or CALLS=n: nothing may grow
	$(AS_COMPILED) $(BIN)/python -m bench soak --minutes $(MINUTES) $(if $(CALLS),--calls $(CALLS))

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(INTEROP) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

test: export TELBRIDGE_REQUIRE_BUILT = 1
test: export WITH_COMPILED = $(COMPILED)

$(VENV)/.run: pyproject.toml scripts/system-packages.sh
	scripts/system-packages.sh run
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	scripts/system-packages.sh test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local,test,compiled]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local,test,compiled,bench]'
	@touch $@

$(COMPILED)/.made: $(VENV)/.dev setup.py pyproject.toml $(shell find telbridge -name '*.py')
	rm -rf $(COMPILED) build/lib* build/temp*
	MYPY_CACHE_DIR=build/mypy TELBRIDGE_COMPILED=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --no-deps --target $(COMPILED) .
	@touch $@

$(INTEROP)/.run: pyproject.toml
	test -x $(INTEROP)/bin/python || $(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[local,test,interop]'
	@touch $@
