# Every target sets up .venv first, which takes a moment when it is already complete.
.DEFAULT_GOAL := help
PY := .venv/bin/python
ARGS ?=

.PHONY: help setup demo real test unit slow lint audit tools docs pictures clean

help:  ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup:  ## install the locked packages into .venv
	@bash requirements/install.sh

demo: setup  ## run the loop's first turn on the miniature world, then serve (ARGS=--check: second turn, checks, exit)
	@$(PY) -m training demo $(ARGS)

real: setup  ## run the loop on a real language model, open for ranking in minutes (ARGS=--check: unattended; --next)
	@$(PY) -m training real $(ARGS)

test: setup  ## run all tests that this machine can run, except the slow ones, on at most four cores
	$(PY) -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadgroup --durations 25 $(ARGS)

unit: setup  ## run only the fast tests, on all cores
	$(PY) -m pytest -m "unit and not slow" --numprocesses auto --dist loadfile $(ARGS)

slow: setup  ## run the long tests: soak, many kills, drills
	$(PY) -m pytest -m slow $(ARGS)

lint: setup  ## run ruff, mypy and import-linter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

.audit/venv/audit.txt: requirements/audit.txt
	@$(PY) -m venv --clear .audit/venv
	@.venv/bin/uv pip install --quiet --python .audit/venv/bin/python --no-deps --requirement requirements/audit.txt
	@cp requirements/audit.txt $@

audit: setup .audit/venv/audit.txt  ## check licences, vulnerabilities and secrets, write a bill of materials to .audit
	@.audit/venv/bin/python requirements/audit.py $(ARGS)

tools:  ## install what checks deploy/ into .tools: kubectl, kubernetes-validate, hadolint
	@bash requirements/deploy.sh

docs: setup  ## write the generated parts of the documents again
	@$(PY) -m docs.reference

pictures: setup  ## photograph the pages of a running demo into docs/images (Chromium)
	@$(PY) -m docs.pictures $(ARGS)

clean:  ## delete everything that commands wrote (checkpoints, reports, the database), except .venv
	rm -rf runs
