# One door: run, test, test-all, check, bench, starter.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test test-all check bench starter clean

run: $(STAMP)
	$(BIN)/nightschool run

test: $(STAMP) # three processes even on two cores, as many tests wait
	$(BIN)/python -m pytest -q -n 3 --dist worksteal

test-all: $(STAMP)
	$(BIN)/python -m pytest -q -m "not gpu"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python bench/engine.py
	$(BIN)/python bench/swap.py
	$(BIN)/python bench/learning.py --teacher warm --nights 3 --choices 40 --seed 0

starter: $(STAMP)
	$(BIN)/python data/starter/make.py --minutes 24
	$(BIN)/python data/starter/make.py --start data/starter --peak 2.5e-3 --minutes 17 --seed 2
	$(BIN)/python data/starter/make.py --start data/starter --peak 2e-3 --minutes 30 --seed 3

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf .venv
