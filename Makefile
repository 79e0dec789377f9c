# The two commands a newcomer needs are `make quickstart` and `make test`.
.PHONY: setup quickstart pipeline plan test lint types imports pytest bench gpu soak fmt clean

PYTHON ?=
PYTEST_ARGS ?=
BIN := .venv/bin

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

setup:  ## make .venv with everything in it; does nothing when that has been done
	@PYTHON="$(PYTHON)" sh configs/install/setup.sh

quickstart: setup  ## train a tiny policy on sums of handwritten digits
	@$(BIN)/python rl/grpo.py
	@echo "The results lie in $(CURDIR)/$$(ls -td runs/*/ | head -1)"

pipeline: setup  ## the whole recipe on a laptop: parts, alignment, swap, rounds, GRPO, and their table
	@$(BIN)/python rl/pipeline.py

plan: setup  ## what every shipped recipe for GPUs holds of its machine
	@$(BIN)/python rl/plan.py

test: setup lint types imports pytest  ## every check that needs no GPU

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/pyright

imports:
	$(BIN)/lint-imports

# Two processes: engines and learners spend much of their start on one core. More would share
# the memory of one machine; threads of two processes would wait for one another.
pytest:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" --durations=20 \
		-n 2 --no-loadscope-reorder $(PYTEST_ARGS)

BENCHMARKS ?= grpo_vs_trl learner rollout sync overlap memory attention
RESULTS ?= runs/bench

bench: setup  ## time this machine beside TRL and beside the committed baselines; half an hour
	@for name in $(BENCHMARKS); do \
		$(BIN)/python benchmarks/$$name.py --out $(RESULTS)/$$name.json || exit 1; done
	$(BIN)/python benchmarks/compare.py $(RESULTS)

gpu: setup  ## on a machine with GPUs: what only they can show, docs/gpu.md; results in runs/gpu/
	$(BIN)/python -m pytest -m gpu tests/gpu
	$(BIN)/python benchmarks/gpu_learner.py --out runs/gpu/gpu_learner.json
	$(BIN)/python benchmarks/gpu_sync.py --out runs/gpu/gpu_sync.json

soak: setup  ## half an hour with a fault every minute: memory, accuracy, nothing lost
	$(BIN)/python benchmarks/soak.py --out soak.json

fmt: setup  ## put the code into the form that `make test` asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and caches; keeps runs/
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
