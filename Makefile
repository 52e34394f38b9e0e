# Everything one types here. `make run` and `make test` set up what they need themselves.
# PYTHON=python3.11 chooses the interpreter, ARGS="-k clip" adds arguments.
VENV ?= .venv
PY := $(VENV)/bin/python
export VENV
# Two files at a time, for two cores, each in one process, for it loads its models once; the page's
# come last. ARGS="-n 0" runs all one after another.
TESTS := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# Where there is a screen the page opens by itself; its address is printed in any case.
OPEN := $(if $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname)),--open)

.PHONY: help run test demo check format bench golden lock space ready ready-test reliability

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 20

run: ready ## open the studio in the browser
	$(PY) app.py $(OPEN) $(ARGS)

test: ready-test ## run all tests
	$(TESTS) $(ARGS)

demo: ready ## make one of each thing the project can do
	scripts/demo.sh

check: ready-test ## lint, types and tests
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(TESTS) $(ARGS)

format: ready-test ## let ruff put the code in order
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

bench: ready ## measure speed and memory
	$(PY) -m benchmarks $(ARGS)

reliability: ready ## break a studio on purpose, about an hour; see docs/reliability.md
	$(PY) -m scripts.reliability $(ARGS)

golden: ready-test ## draw the golden pictures anew; look at every change before you commit it
	$(PY) -m pytest --update-golden $(ARGS)

space: ready ## write the folder of a Space; ARGS="--to DIR"
	$(PY) -m scripts.space $(ARGS)

lock: ready-test ## bring constraints.txt up to the requirement files; ARGS=--upgrade renews all
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	UV_PYTHON_DOWNLOADS=never $(PY) -m uv pip compile --quiet --universal --python-version 3.10 \
		--no-annotate --custom-compile-command "make lock" $(ARGS) \
		--output-file constraints.txt requirements.txt requirements-test.txt

ready:
	@scripts/environment.sh run

ready-test:
	@scripts/environment.sh test
