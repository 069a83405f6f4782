# make lab     set up, then open the labs in JupyterLab     (LAB_ARGS=--no-browser on a server)
# make test    set up, then run the fast tests              (FULL=1 for all of them, TEST_ARGS for pytest)
# make flakes  the browser tests RUNS times in a row, 10 unless said; the first failure ends it (TEST_ARGS as above)
# make lint    style, types, layers, and whether the notebooks are built from their sources
# make notebooks, make lock   build labs/*.ipynb, requirements/*.txt again
# make docs    render the labs, executed, to docs/labs/*.html, and draw docs/gallery again
# make site    docs/ as a site, in build/site; make examples and make badges write their parts of the pages again
# make lite    the labs with a Python that runs in the browser, as a static site in build/lite
# make clean   remove all that make and the tools made
#
# Everything goes into .venv here: with uv where it is installed, with pip otherwise. PYTHON names another Python.

.PHONY: lab test flakes lint setup notebooks lock clean docs site lite badges examples
.DELETE_ON_ERROR:
.DEFAULT_GOAL := lab

VENV := .venv
RUN := $(VENV)/bin
FULL ?=
LAB_ARGS ?=
RUNS ?= 10
TEST_ARGS ?=

ifneq ($(shell command -v uv 2>/dev/null),)
make_venv = uv venv --quiet --python "$$python" $(VENV)
install = uv pip install --quiet --python $(RUN)/python
else
make_venv = "$$python" -m venv $(VENV)
# Debian 12's pip would run a setup.py itself, with whatever that downloads: built in isolation, as a newer one does.
install = PIP_USE_PEP517=1 $(RUN)/python -m pip install --quiet --quiet --disable-pip-version-check
endif

lab: $(VENV)/lab.stamp
	@$(RUN)/vnmi-lab open $(LAB_ARGS)

test: $(VENV)/$(if $(FULL),dev,test).stamp
	@$(RUN)/python -m pytest -n auto --dist worksteal $(if $(FULL),--hypothesis-profile=full,-m "not slow") $(TEST_ARGS)

flakes: $(VENV)/dev.stamp
	@for run in $$(seq $(RUNS)); do \
		echo "run $$run of $(RUNS)"; \
		VNMI_REQUIRE_ALL=1 $(RUN)/python -m pytest -q -m browser tests $(TEST_ARGS) || exit 1; \
	done

lint: $(VENV)/dev.stamp
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/python tools/notebooks.py --check

# All that developing needs: tests, lint, types, layers, bench.
setup: $(VENV)/dev.stamp

# The committed notebooks are built from the .py beside them.
notebooks: $(VENV)/dev.stamp
	@$(RUN)/python tools/notebooks.py

# The labs for readers without a kernel: executed, with pictures in the place of players.
docs: $(VENV)/dev.stamp
	@$(RUN)/python tools/render_labs.py docs/labs
	@mkdir -p docs/gallery
	@VNMI_GALLERY=docs/gallery $(RUN)/python -m pytest -q tests/browser/test_gallery.py

# These pages as a site that asks the network for nothing: build/site/index.html.
site: $(VENV)/dev.stamp
	@NO_MKDOCS_2_WARNING=1 $(RUN)/python -m mkdocs build --strict --quiet

# The table of the labs in the README, with their badges.
badges: $(VENV)/dev.stamp
	@$(RUN)/python tools/badges.py

# The labs as a static site whose Python runs in the browser: build/lite. Needs npm, for the interpreter.
lite: $(VENV)/dev.stamp
	@$(RUN)/python tools/lite.py

# What the examples in docs/*.md print, written below them again.
examples: $(VENV)/dev.stamp
	@$(RUN)/python tools/examples.py

lock:
	@tools/lock

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each locked set: made again when the lock or the project's metadata is newer.
$(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(RUN)/python
	@echo "installing requirements/$*.txt into $(VENV)"
	@$(install) --require-hashes -r requirements/$*.txt
	@$(install) --no-deps --no-build-isolation --editable .
	@touch $@

$(RUN)/python:
	@python=$$(PYTHON="$(PYTHON)" tools/find-python) && $(make_venv)
