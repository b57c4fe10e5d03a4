.PHONY: venv demo test lint format

PYTHON ?= python3
BIN := .venv/bin

venv: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: venv
	$(BIN)/prefrl demo

test: venv
	$(BIN)/prefrl --help > /dev/null
	$(BIN)/python -m pytest --numprocesses 2

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
