# make demo: set up everything and run the whole chain on two datasets that ship inside packages.
# make test: set up everything and run the default test suite.
PYTHON ?= python3
BIN := .venv/bin
# Modules in their order: the longest are collected first, so that no worker ends with one.
PARALLEL := --numprocesses=auto --dist=loadscope --no-loadscope-reorder

.PHONY: demo test test-slow test-browser lint generate bench clean

demo: .venv/installed
	$(BIN)/crosstrain demo

test: .venv/installed
	$(BIN)/python -m pytest -m "not slow and not browser" $(PARALLEL)

# CI adds the browser tests: make test-slow SLOW="slow or browser"
SLOW := slow
test-slow: .venv/installed
	$(BIN)/python -m pytest -m "$(SLOW)" --timeout=900 $(PARALLEL)

# Needs Debian's chromium, or another on the path.
test-browser: .venv/installed
	$(BIN)/python -m pytest -m browser

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# params.yaml, prefect.yaml, docs/methods.md and README's number of methods, from the code.
generate: .venv/installed
	$(BIN)/python -m tools.generate

# Prefect's database is made here, so that no run has to wait for its migrations; and the bytecode,
# which a user who has set PYTHONDONTWRITEBYTECODE would pay for at every command.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[demo,dev]'
	DO_NOT_TRACK=1 PREFECT_HOME="$(CURDIR)/.prefect" $(BIN)/prefect server database upgrade -y >/dev/null
	$(BIN)/python -m compileall -q transfer tasks flows
	touch $@

# The figures of docs/performance.md, about an hour on a quiet machine; tables in benchmarks/results.
bench: .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.quick_digits
	$(BIN)/python -m benchmarks.frozen
	$(BIN)/python -m benchmarks.arms
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.budget

clean:
	rm -rf build reports/retrain.* reports/validation .prefect
