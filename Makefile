# Everything runs in .venv, which is made on first use; a second call installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test mutants lint clean

demo: $(INSTALLED)
	$(BIN)/interp study experiments/configs/organism.yaml

# Two processes; the tests of one file share theirs.
test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Changes the source on purpose, in a copy, and counts what the tests notice. ARGS="--only interp/tasks" and the like.
mutants: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m mutants $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) results
