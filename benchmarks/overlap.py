"""Seconds of a GRPO step over those of its longer half, at staleness 0, 1 and 2.

    python benchmarks/overlap.py --out overlap.json

A run of the tiny recipe for each staleness, one behind the other. At 0 rollout and learner take
turns, so a step lasts as long as both. Later they work at the same time, and a step need not last
longer than the longer of the two: 1 is the limit. `longer_half_over_step` takes the halves of the
same run. On a CPU machine both want the same cores, and take longer than by turns:
`undisturbed_half_over_step` takes the longer half of the run at 0, and `steps_over_synchronous`
says what is won.
"""

import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measuring
from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import find_recipe, read_recipe
from rl.algorithms.grpo import train
from rl.jobs.grpo import grpo_run
from rl.storage.jsonl import read_lines
from rl.tiny.start_policy import start_policy

STALENESS = (0, 1, 2)
WARM_UP = 4


def run(folder: Path, staleness: int, steps: int) -> list[dict[str, Any]]:
    """The metrics of each step."""
    overrides = [
        f"name=staleness_{staleness}",
        f"max_staleness={staleness}",
        f"steps={steps}",
        "evaluation.data=null",
        "checkpoint.every=1000000",
        "log.wandb=false",
        f"log.folder={folder}",
    ]
    recipe = read_recipe(find_recipe("digits"), GRPORecipe, overrides)
    grpo_run(recipe, train, start_policy(recipe))
    return list(read_lines(recipe.run_folder / "metrics.jsonl"))


def main() -> None:
    chosen = measuring.parser(__doc__, rounds=26).parse_args()
    steps = WARM_UP + chosen.rounds
    figures: dict[str, Any] = {"steps": steps}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        found = {n: run(Path(folder), n, steps) for n in STALENESS}
    step_s: dict[int, float] = {}
    for staleness, lines in found.items():
        counted = lines[WARM_UP:]
        step_s[staleness] = median(line["seconds"] for line in counted)
        longer = median(
            max(
                line["rollout_tokens"] / line["rollout_tokens_per_s"],
                line["seconds_update"] + line["seconds_sync"],
            )
            for line in counted
        )
        figures[f"step_s_{staleness}"] = step_s[staleness]
        figures[f"longer_half_s_{staleness}"] = longer
        figures[f"reward_{staleness}"] = mean(line["reward"] for line in lines[-len(lines) // 3 :])
        ratios[f"longer_half_over_step_{staleness}"] = longer / step_s[staleness]
        if staleness:
            undisturbed = figures["longer_half_s_0"]
            ratios[f"undisturbed_half_over_step_{staleness}"] = undisturbed / step_s[staleness]
            ratios[f"steps_over_synchronous_{staleness}"] = step_s[0] / step_s[staleness]
    measuring.report(
        chosen.out,
        "Overlap of rollout and learner",
        figures=figures,
        ratios=ratios,
        goals={"undisturbed_half_over_step_1": 1 / 1.15},
    )


if __name__ == "__main__":
    main()
