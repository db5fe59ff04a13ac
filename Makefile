# SPDX-License-Identifier: GPL-2.0-only
# `make help` says what there is. ARGS is handed to klp-e2e (run, bench) or to pytest (test, check):
#     make run ARGS="--arch s390x"

PYTHON := $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
MADE := $(VENV)/made-by-make
# As root there may be no sudo, and none is needed.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -q
ARGS :=
# Every command is a process, and a night starts hundreds: what is compiled once is to be kept.
unexport PYTHONDONTWRITEBYTECODE
# The tests take those that no command takes by default, too; not those that have livepatch only in
# kernels newer than the tests'.
EVERY_ARCH := $(patsubst orchestrator/arches/%.toml,--arch %,$(shell grep -L '^since = ' orchestrator/arches/*.toml))
# A guest has one CPU and waits now and then: one test more at a time than there are cores, up to four.
SIDE_BY_SIDE := --numprocesses $(shell expr $$(nproc) + 1) --maxprocesses 4 --dist loadgroup

# The Debian packages that are not installed, one a line, from the files that `klp-e2e doctor` reads.
define MISSING_PACKAGES
import pathlib, subprocess, tomllib
read = lambda path: tomllib.loads(path.read_text())
house = pathlib.Path("orchestrator")
common = read(house / "host-packages.toml")
wanted = {*common["programs"].values(), *common["files"]}
for arch in (house / "arches").glob("*.toml"):
    wanted.update(read(arch).get("packages", []))
query = ["dpkg-query", "-W", "-f", "$${db:Status-Status} $${Package}\\n", *sorted(wanted)]
told = subprocess.run(query, stdout=-1, stderr=-3, text=True).stdout.splitlines()
print(*sorted(wanted - {line.split()[1] for line in told if line.startswith("installed ")}), sep="\n")
endef
export MISSING_PACKAGES
# With a fresh list of packages where the one there is has none, or is of yesterday.
define INSTALL
install() { \
	ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || $(APT) update; \
	$(APT) install -y --no-install-recommends "$$@" || \
		{ $(APT) update; $(APT) install -y --no-install-recommends "$$@"; }; }
endef

.PHONY: help run nightly test check fuzz corpus known-options bench man venv host test-tools install-timer clean
.DEFAULT_GOAL := help

help: ## this text
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: venv ## build the kernels, boot the guests, run the core orders on every architecture
	@$(BIN)/klp-e2e run $(ARGS)

nightly: venv ## what runs every night: kernel-config/nightly.toml
	@$(BIN)/klp-e2e nightly $(ARGS)

test: venv test-tools ## all tests, real guests included
	@$(BIN)/klp-e2e build $(EVERY_ARCH)
	@$(BIN)/klp-e2e build --series none
	@$(BIN)/pytest tests $(SIDE_BY_SIDE) $(ARGS)

check: venv ## format, lint, types, dead code, and the tests that need no guest
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/vulture
	@$(BIN)/vulture orchestrator tests
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/unit tests/contract tests/fuzz $(SIDE_BY_SIDE) $(ARGS)

# As long with each reader of what others wrote; what is found is kept, and told how to keep for good.
fuzz: SECONDS := 60
fuzz: venv ## spoilt files for each reader, other ones each time: SECONDS=600 for each of them
	@KLP_E2E_FUZZ_SECONDS=$(SECONDS) $(BIN)/pytest -q tests/fuzz --timeout 0 $(SIDE_BY_SIDE) $(ARGS)

corpus: venv ## source patches through their builder, and in every order: ARGS="7.3", and names of some
	@$(BIN)/python tests/corpus/prove.py $(ARGS)

known-options: venv ## add the Kconfig options of ARGS="debian:6.1 debian:newest" to the known ones
	@$(BIN)/python -m orchestrator.build.knownoptions $(ARGS)

bench: venv ## performance, as ratios from one run
	@$(BIN)/python -m orchestrator.bench $(ARGS)

man: venv ## the manual page, build/klp-e2e.1
	@mkdir -p build
	@$(BIN)/python -m orchestrator.cli.manpage > build/klp-e2e.1
	@echo "man -l build/klp-e2e.1"

install-timer: venv ## systemd runs `klp-e2e nightly` every night, as you
	@$(BIN)/python -m orchestrator.commands.nightly.timer $(ARGS)

venv: $(STAMP) ## the environment in .venv, and what it needs on the host

host: ## install the Debian packages that are missing; nothing happens when none is
	@if ! command -v dpkg-query >/dev/null; then \
		echo "not a Debian machine: 'klp-e2e doctor' says what is missing"; exit 0; fi; \
	set -e; $(INSTALL); \
	command -v $(PYTHON) >/dev/null || install python3; \
	missing=$$($(PYTHON) -c "$$MISSING_PACKAGES"); \
	if [ -n "$$missing" ]; then echo "installing:" $$missing; install $$missing; fi

test-tools: venv # a browser to look at the pages with; what checks the timer's units, the manual page
	@{ command -v chromedriver && command -v systemd-analyze && command -v groff; } >/dev/null || \
		! command -v dpkg-query >/dev/null || { $(INSTALL); \
		echo "installing what only the tests need"; \
		install chromium chromium-driver fonts-dejavu-core groff-base systemd; }

$(STAMP): pyproject.toml | host
	@test -x $(BIN)/pip || { $(PYTHON) -m venv $(VENV) && touch $(MADE); }
	@echo "installing into $(VENV) what pyproject.toml asks for"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,fleet]'
	@touch $@

clean: ## remove the environment and what tools left; results and the cache stay
	@# .venv may be somebody's own, into which we only installed
	if [ -e $(MADE) ]; then rm -rf $(VENV); fi
	rm -f build/klp-e2e.1
	rm -rf klp_e2e.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
