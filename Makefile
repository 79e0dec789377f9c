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

GPU_RESULTS ?= runs/gpu
GPUS ?= $(shell $(BIN)/python -c "import torch; print(torch.cuda.device_count())" 2>/dev/null || echo 0)
LEARNER := benchmarks/gpu_learner.py

# Each command runs whatever became of those before it; one that failed fails the target.
gpu: setup  ## on a machine with GPUs: what only they can show, docs/gpu.md; results in runs/gpu/
	@gpus=$(GPUS); failed=; run() { echo "$$*"; "$$@" || failed="$$failed$$(printf '\n  %s' "$$*")"; }; \
	run $(BIN)/python -m pytest -m gpu tests/gpu; \
	run $(BIN)/python $(LEARNER) --out $(GPU_RESULTS)/gpu_learner.json; \
	if [ $$gpus -ge 4 ]; then run $(BIN)/torchrun --nproc-per-node $$gpus $(LEARNER) \
		--out $(GPU_RESULTS)/gpu_learner_7b.json --size 7b --zero 3; \
	else echo "7 billion parameters are left out: they need 4 GPUs, here are $$gpus"; fi; \
	run $(BIN)/python benchmarks/gpu_sync.py --out $(GPU_RESULTS)/gpu_sync.json; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

soak: setup  ## half an hour with a fault every minute: memory, accuracy, nothing lost
	$(BIN)/python benchmarks/soak.py --out soak.json

fmt: setup  ## put the code into the form that `make test` asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and caches; keeps runs/
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
