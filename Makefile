# All of the set-up is in tools/setup_venv.py. It runs before every target that needs .venv and returns at once when
# nothing changed. Options: ARGS="..." for the command, PYTHON=python3.12, TORCH_INDEX=URL.

BIN := .venv/bin
ARGS ?=
PYTHON ?=
TORCH_INDEX ?=
# Without PYTHON, a .venv keeps the Python it was made with.
SETUP_PYTHON = $(or $(PYTHON),$(shell $(BIN)/python -c "" 2>/dev/null && echo $(BIN)/python || echo python3))

.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-knowledge bench-volumes bench-training wheel clean set-up

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: set-up ## the whole line, from knowledge to report, into runs/demo
	$(BIN)/vesalius demo $(if $(filter --out --out=%,$(ARGS)),,--out runs/demo) $(ARGS)

test: set-up ## the test suite; ARGS="-m slow" for what takes longer
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

check: set-up ## style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: bench-knowledge bench-volumes bench-training ## every benchmark, at full size: some hours

bench-knowledge: set-up ## a graph of full UMLS size: time and memory; ARGS="--scale 0.01" takes a minute
	$(BIN)/python benchmarks/knowledge.py $(if $(ARGS),$(ARGS),--report docs/benchmarks/knowledge.md)

bench-volumes: set-up ## reading crops, against the published way and nnU-Net's, into docs/benchmarks/volumes.md
	$(BIN)/python benchmarks/volumes.py --out docs/benchmarks/volumes.md $(ARGS)

bench-training: set-up ## what training costs, against the published form and other trainers; ARGS="--quick" takes eight minutes
	$(BIN)/python benchmarks/training.py $(if $(ARGS),$(ARGS),--out docs/benchmarks/training.md)

wheel: set-up ## the package to publish, into dist/
	$(BIN)/python -m build --wheel --outdir dist

clean: ## remove .venv, dist and caches; runs stay
	rm -rf .venv build dist .pytest_cache .hypothesis .ruff_cache .import_linter_cache
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

set-up:
	@command -v $(SETUP_PYTHON) >/dev/null || { echo "set-up: no $(SETUP_PYTHON) here; name a Python: PYTHON=python3.12 make demo" >&2; exit 1; }
	@$(SETUP_PYTHON) tools/setup_venv.py --torch-index "$(TORCH_INDEX)"
