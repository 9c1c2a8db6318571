# Every target sets up .venv first; that takes a moment when it is already there.
.DEFAULT_GOAL := help
PY := .venv/bin/python
ARGS ?=

.PHONY: help setup demo test unit slow lint docs pictures clean

help:  ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup:  ## install the locked packages into .venv
	@bash requirements/install.sh

demo: setup  ## the first turn of the loop on the miniature world, then serve (ARGS=--check: second turn, checks, exit)
	@$(PY) -m training demo $(ARGS)

test: setup  ## every test that this machine can run, but the slow ones
	$(PY) -m pytest -m "not slow" $(ARGS)

unit: setup  ## the fast tests alone
	$(PY) -m pytest -m unit $(ARGS)

slow: setup  ## the long tests: soak, many kills, drills
	$(PY) -m pytest -m slow $(ARGS)

lint: setup  ## ruff, mypy, import-linter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

docs: setup  ## write the generated parts of the documents anew
	@$(PY) -m docs.reference

pictures: setup  ## take the pictures of the pages anew (real engines, Chromium)
	@$(PY) -m docs.pictures

clean:  ## delete what commands made (checkpoints, reports, the database), but not .venv
	rm -rf runs
