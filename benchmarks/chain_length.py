"""How the repetition penalty moves length and accuracy of a policy's chains: adaptive, and fixed.

    python rl/distill.py
    python benchmarks/chain_length.py --out chain_length.json --plot chain_length.png

The distillation's own passes on its problems: each question is scored once; then, for each alpha,
chains are sampled under the penalty that each question deserves, and under one penalty for all of
the same mean.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter
from rich.console import Console
from rich.table import Table

from actors.cluster.ray_session import ray_session
from configs.jobs.distill import DistillRecipe
from configs.loading.recipe import RECIPES, read_recipe
from rl.algorithms.interfaces import AnswerStream
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from rl.distillation.chain_length import QueryScores, repetition_penalties
from rl.distillation.passes import Asked
from rl.distillation.self_scoring import self_scores
from rl.jobs.clarity import clarities
from rl.jobs.distill import Distillation

ALPHAS = (0.0, 0.1, 0.2, 0.4, 0.8)


def measured(recipe: DistillRecipe, alphas: Sequence[float]) -> list[dict[str, Any]]:
    """A line for each alpha and kind of penalty."""
    with ray_session():
        work = Distillation.prepare(recipe, resume=False)
        clarity_N = clarities(
            work.passes.problems, recipe.scoring.full_resolution, recipe.run_folder / "clarity"
        )
        with work.engines(recipe) as rollouts:
            scores = self_scores(recipe, work.passes, rollouts, clarity_N)
            return [
                line
                for alpha in alphas
                for line in _both(recipe, work, rollouts, scores, alpha=alpha)
            ]


def _both(
    recipe: DistillRecipe,
    work: Distillation,
    rollouts: AnswerStream,
    scores: Sequence[QueryScores],
    *,
    alpha: float,
) -> list[dict[str, Any]]:
    """Chains under each question's own penalty, and under their mean for all."""
    adaptive = recipe.length.model_copy(update={"alpha": alpha})
    penalties_N = repetition_penalties(scores, adaptive)
    mean = float(penalties_N.mean())
    fixed_N = repetition_penalties(scores, adaptive.model_copy(update={"fixed_penalty": mean}))
    lines: list[dict[str, Any]] = []
    for kind, own_N in (("adaptive", penalties_N), ("fixed", fixed_N)):
        name = f"{kind}_{alpha:g}"
        count = len(work.passes.problems)
        ask = partial(_ask, recipe, own_N.tolist())
        journal = work.passes.run(name, range(count), rollouts, ask)
        notes = [note for _, note in journal.lines()]
        right = [length for note in notes for length in note["right"]]
        lines.append(
            {
                "alpha": alpha,
                "penalty": kind,
                "penalty_mean": mean,
                "penalty_min": float(own_N.min()),
                "penalty_max": float(own_N.max()),
                "accuracy": len(right) / sum(note["count"] for note in notes),
                "tokens_of_right_mean": fmean(right) if right else None,
                "tokens_mean": fmean(length for note in notes for length in note["lengths"]),
            }
        )
    return lines


def _ask(
    recipe: DistillRecipe, penalties_N: Sequence[float], index: int, problem: Problem
) -> Asked:
    request = SamplingRequest(
        recipe.samples,
        recipe.rollout.temperature,
        recipe.rollout.max_new_tokens,
        recipe.seed + 1,
        top_p=recipe.top_p,
        repetition_penalty=penalties_N[index],
    )
    return problem, request, partial(_lengths, recipe.reward.accuracy)


def _lengths(accuracy: str, group: ScoredGroup) -> dict[str, Any]:
    lengths = [len(answer.token_ids) for answer in group.group.answers]
    causes = [score.verdicts[accuracy].cause for score in group.scores]
    right = [n for n, cause in zip(lengths, causes, strict=True) if cause == "correct"]
    return {"count": len(lengths), "lengths": lengths, "right": right}


def plot(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy and length over alpha, and against one another."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for kind, style in (("adaptive", "o-"), ("fixed", "s--")):
        own = [line for line in lines if line["penalty"] == kind]
        alphas, tokens, accuracy = (
            [line[name] for line in own] for name in ("alpha", "tokens_mean", "accuracy")
        )
        left.plot(alphas, tokens, style, label=kind)
        middle.plot(alphas, accuracy, style, label=kind)
        right.plot(tokens, accuracy, style, label=kind)
    left.set(xlabel="alpha", ylabel="tokens of a chain, mean", title="Length")
    middle.set(xlabel="alpha", ylabel="right chains", title="Accuracy")
    right.set(xlabel="tokens of a chain, mean", ylabel="right chains", title="Accuracy by length")
    for axes in (middle, right):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    right.legend(title="penalty")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--recipe", default="digits_distill", help="a recipe of rl/distill.py")
    options.add_argument("--policy", help="checkpoint that writes the chains; the recipe's if none")
    options.add_argument("--limit", type=int, default=256, help="problems")
    options.add_argument("--samples", type=int, default=4, help="chains of each problem")
    options.add_argument("--alphas", type=float, nargs="+", default=ALPHAS)
    options.add_argument("--out", type=Path, required=True, help="JSON file")
    options.add_argument("--plot", type=Path, help="PNG file")
    chosen = options.parse_args()
    recipe = read_recipe(RECIPES / f"{chosen.recipe}.yaml", DistillRecipe)
    policy = recipe.policy.model_copy(update={"path": chosen.policy or recipe.policy.path})
    changes = {
        "name": "chain_length",
        "policy": policy,
        "data": recipe.data.model_copy(update={"limit": chosen.limit}),
        "samples": chosen.samples,
        "teacher": None,
    }
    lines = measured(recipe.model_copy(update=changes), chosen.alphas)
    chosen.out.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")
    table = Table(*lines[0], title=f"Chains of {policy.path} on {chosen.limit} problems")
    for line in lines:
        table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in line.values()))
    Console().print(table)
    if chosen.plot:
        plot(lines, chosen.plot)


if __name__ == "__main__":
    main()
