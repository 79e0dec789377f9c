#!/bin/bash
# A Ray cluster inside a Slurm allocation, and one job on it:
#   sbatch configs/cluster/slurm.sh configs/recipes/RECIPE.yaml log.folder=/FOLDER/THAT/ALL/NODES/SHARE
# The checkout with its .venv lies on a file system that all nodes share; submit from its root.
#SBATCH --job-name=r1v
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
set -euo pipefail

export PATH="$PWD/.venv/bin:$PATH"
# Nobody else on the network may run code here; the token lives as long as the allocation.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_ADDRESS="$address:$port"

start() { # start NODES NAME... : a Ray node that lives until this script ends
    srun --nodes="$1" --ntasks="$1" --overlap "${@:2}" &
}
start 1 --nodelist="$head" env -u RAY_ADDRESS ray start --block --head \
    --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1
workers=$((SLURM_JOB_NUM_NODES - 1))
if [ "$workers" -gt 0 ]; then
    start "$workers" --exclude="$head" env -u RAY_ADDRESS ray start --block --address="$address:$port"
fi

# A run checks that its actors have room before it starts any, so all nodes have to be there.
srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" python - "$SLURM_JOB_NUM_NODES" <<'PYTHON'
import sys
import time

import ray

wanted, until = int(sys.argv[1]), time.monotonic() + 600
while True:
    try:
        ray.init(logging_level="ERROR")
        there = sum(node["Alive"] for node in ray.nodes())
        ray.shutdown()
    except (ConnectionError, RuntimeError):
        there = 0
    if there >= wanted:
        break
    if time.monotonic() > until:
        raise SystemExit(f"{there} of {wanted} nodes came within 10 minutes; see their output above")
    time.sleep(2)
PYTHON

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" python rl/grpo.py "$@"
