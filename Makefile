# What a newcomer needs is the first three: make run, make test, make demo.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
PREFIX ?= /usr/local
# An installation anew when these change: the record loops are compiled by it, where there is a C compiler.
INSTALLED_FROM := pyproject.toml setup.py src/ottla/records/record_loops.py src/ottla/client/producer/intake.py

.PHONY: run cluster test demo lint bench bench-cluster bench-peers bench-quick torture fuzz docs install-man clean

run: $(VENV)/.installed  ## start a broker on 127.0.0.1:9092 with its data in ./data
	$(BIN)/ottla serve --data ./data --listen 127.0.0.1:9092

cluster: $(VENV)/.installed  ## three ZooKeeper servers and three brokers on 127.0.0.1:9092-9094, data in ./data-cluster
	$(BIN)/python -m tools.cluster --data ./data-cluster

test: $(VENV)/.installed-test  ## set up and pass the tests; names what this machine lacks for some of them
	$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

demo: $(VENV)/.installed  ## the weather application from end to end
	$(BIN)/python -m examples.weather.demo

lint: $(VENV)/.installed-lint  ## style, types, and which room may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test  ## figures of this machine
	$(BIN)/python -m bench

bench-cluster: $(VENV)/.installed-test  ## figures of three brokers on this machine; wants Java and Debian's zookeeper
	$(BIN)/python -m bench --cluster

bench-peers: CELLS ?=
bench-peers: $(VENV)/.installed-bench  ## Ottla beside Apache Kafka and others, into docs/benchmarks.md (CELLS); under 2 hours
	$(BIN)/python -m bench.peers --report docs/benchmarks.md $(CELLS)

bench-quick: AGAINST ?=
bench-quick: $(VENV)/.installed-test  ## what fixed works cost in instructions, beside the last release (AGAINST=REVISION); wants valgrind
	$(BIN)/python -m bench.quick $(if $(AGAINST),--against $(AGAINST))

torture: ROUNDS ?= 500
torture: SEED := $(shell date +%s)
torture: BOUNCES ?= 40
torture: $(VENV)/.installed-test  ## many more crashes (ROUNDS), and of each fault of a cluster (BOUNCES), SEED; wants root
	@echo "OTTLA_TEST_SEED=$(SEED)"
	OTTLA_TEST_SEED=$(SEED) OTTLA_TEST_KILLS=$(ROUNDS) OTTLA_TEST_ROUNDS=$(ROUNDS) \
	  $(BIN)/python -m pytest -rP -n 2 tests/crash $(PYTEST_ARGS)
	OTTLA_TEST_SEED=$(SEED) OTTLA_TEST_BOUNCES=$(BOUNCES) $(BIN)/python -m pytest -rP tests/cluster $(PYTEST_ARGS)

fuzz: SECONDS_EACH ?= 60
fuzz: TARGETS ?=
fuzz: $(VENV)/.installed-fuzz  ## atheris against every decoder and a live socket (SECONDS_EACH, TARGETS, SEED)
	$(BIN)/python -m tests.fuzz $(TARGETS) --seconds $(SECONDS_EACH) $(if $(SEED),--seed $(SEED))

docs: $(VENV)/.installed-test  ## write docs/cli.md, the man pages, docs/compatibility.md and docs/invariants.md anew
	$(BIN)/python -m tools.cli_reference
	$(BIN)/python -m tools.compatibility
	$(BIN)/python -m tools.invariants

install-man:  ## copy the man pages where man looks for them (PREFIX=/usr/local)
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/ottla/records/*.so

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Ottla needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(INSTALLED_FROM)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python $(INSTALLED_FROM)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,interop]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-fuzz: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

$(VENV)/.installed-lint: $(VENV)/bin/python $(INSTALLED_FROM)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,interop,lint]'
	touch $(VENV)/.installed $(VENV)/.installed-test $@
