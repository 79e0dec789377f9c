"""Whole GRPO steps of this project and of TRL's GRPOTrainer, on the same machine by turns.

    python benchmarks/grpo_vs_trl.py --out grpo_vs_trl.json [--case tiny pictures text]

Both start from the same checkpoint and see the same problems in the same order, with the same
rewards, group size, lengths, precision and optimizer. Both are kept running and take steps by
turns, so that a machine whose speed swings is fair to both. A step is everything from one update to
the next: reading, rollout, rewards, update, sync and log.

tiny: the laptop's recipe, digits. pictures: an R1V of 52 million parameters, pictures of 448 x 448,
256 image tokens, answers of 128. text: a language model of 27 million, prompts of 256 tokens.
"""

import importlib.util
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from benchmarks import measuring
from benchmarks.trl_grpo import TRLByTurns, TRLJob
from benchmarks.untrained import PICTURES, untrained_run
from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import find_recipe, read_recipe
from rl.algorithms.grpo import train
from rl.algorithms.interfaces import GRPOParts, StepLog
from rl.data.records import Problem
from rl.data.training_problems import ProblemCursor
from rl.jobs.grpo import grpo_run
from rl.jobs.prepare import StartPolicy
from rl.run_log.samples import Logged
from rl.tiny.start_policy import start_policy


@dataclass(frozen=True, slots=True)
class Case:
    """A trial of both."""

    recipe: GRPORecipe
    start: StartPolicy | None
    micro_batch: int
    """TRL's best here."""
    goal: float
    """How many times faster this project should be."""
    warm_up: int = 1
    """Steps that do not count."""


def tiny(folder: Path, steps: int | None, changes: Sequence[str] = ()) -> Case:
    """The laptop's recipe; all 256 answers in one micro-batch suit TRL best.

    `changes`: of the recipe, `section.key=value`.
    """
    overrides = [
        f"steps={steps or 30}",
        "evaluation.data=null",
        "checkpoint.every=1000000",
        "log.wandb=false",
        f"log.folder={folder}",
        *changes,
    ]
    recipe = read_recipe(find_recipe("digits"), GRPORecipe, overrides)
    return Case(recipe, start_policy(recipe), micro_batch=256, goal=1.5, warm_up=3)


def pictures(folder: Path, steps: int | None) -> Case:
    """Pictures of noise; TRL is faster with micro-batches of 8 answers than with all 32 at once."""
    recipe = untrained_run(folder, PICTURES, steps=steps or 4, problems=4, tokens=128)
    return Case(recipe, None, micro_batch=8, goal=8.0)


def text(folder: Path, steps: int | None) -> Case:
    """Text alone; TRL is faster with micro-batches of 8 here, too: 30 s a step in place of 34."""
    recipe = untrained_run(
        folder, PICTURES, steps=steps or 8, problems=4, tokens=128, pictures=False
    )
    return Case(recipe, None, micro_batch=8, goal=2.0)


class Turns:
    """This project's log, which lets TRL take a step behind each of ours, and keeps the time."""

    def __init__(self, log: StepLog, rival: TRLByTurns | None) -> None:
        self._log = log
        self._rival = rival
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.phases: list[Mapping[str, float]] = []
        self.rewards: list[tuple[float, float]] = []
        self._began = time.perf_counter()

    def write_step(
        self, step: int, metrics: Mapping[str, float], learned: Sequence[Logged]
    ) -> None:
        """The end of a step of ours."""
        self._log.write_step(step, metrics, learned)
        self.ours.append(time.perf_counter() - self._began)
        self.phases.append(metrics)
        if self._rival is not None:
            spent, reward = self._rival.step()
            self.theirs.append(spent)
            self.rewards.append((metrics["reward"], reward))
        self._began = time.perf_counter()

    def write_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """There is none."""
        self._log.write_evaluation(step, figures)


def coming(parts: GRPOParts, count: int, scratch: Path) -> list[Problem]:
    """The problems that the run will ask next, which it asks all the same."""
    cursor, place = parts.problems, scratch / "problems.json"
    assert isinstance(cursor, ProblemCursor)
    scratch.mkdir(parents=True, exist_ok=True)
    cursor.save(place)
    problems = cursor.take(count)
    cursor.restore(place)
    return problems


def measured(case: Case, rival: bool, scratch: Path) -> Turns:
    """Run all steps of both."""
    found: list[Turns] = []

    def by_turns(recipe: GRPORecipe, parts: GRPOParts, first: int) -> None:
        folder = case.start.folder if case.start else Path(recipe.policy.path)
        problems = coming(parts, recipe.steps * recipe.problems_per_step, scratch)
        job = TRLJob(recipe, folder, problems, case.micro_batch, scratch / "trl")
        other = TRLByTurns(job) if rival else None
        try:
            turns = Turns(parts.log, other)
            found.append(turns)
            train(recipe, replace(parts, log=turns), first)
        finally:
            if other:
                other.close()

    grpo_run(case.recipe, by_turns, case.start)
    return found[0]


def figures_of(name: str, case: Case, turns: Turns) -> tuple[dict[str, Any], dict[str, float]]:
    """What is reported: figures, and ratios."""
    answers = case.recipe.problems_per_step * case.recipe.rollout.group_size
    ours, theirs = turns.ours[case.warm_up :], turns.theirs[case.warm_up :]
    phases = ("seconds_rollout", "seconds_update", "seconds_sync")
    figures: dict[str, Any] = {
        f"{name}_samples_per_s": answers / median(ours),
        f"{name}_step_s": median(ours),
        **{f"{name}_{p}": median(m[p] for m in turns.phases[case.warm_up :]) for p in phases},
    }
    if not theirs:
        return figures, {}
    gaps = [a - b for a, b in turns.rewards]
    figures |= {
        f"{name}_trl_step_s": median(theirs),
        f"{name}_trl_micro_batch": case.micro_batch,
        f"{name}_reward": mean(a for a, _ in turns.rewards),
        f"{name}_trl_reward": mean(b for _, b in turns.rewards),
        f"{name}_reward_gap_in_standard_errors": _in_standard_errors(gaps),
        f"{name}_rewards": turns.rewards,
    }
    ratio = median(b / a for a, b in zip(ours, theirs, strict=True))
    return figures, {f"{name}_vs_trl": ratio}


def _in_standard_errors(gaps: Sequence[float]) -> float:
    """The mean gap by what it would scatter if it were chance."""
    scatter = stdev(gaps) / math.sqrt(len(gaps))
    return mean(gaps) / scatter if scatter else 0.0


CASES: dict[str, Callable[[Path, int | None], Case]] = {
    "tiny": tiny,
    "pictures": pictures,
    "text": text,
}


def main() -> None:
    options = measuring.parser(__doc__, rounds=0)
    options.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--micro-batch", type=int, help="another one of TRL's")
    options.add_argument("--change", nargs="*", default=[], help="tiny's recipe: section.key=value")
    chosen = options.parse_args()
    cases = CASES | {"tiny": partial(tiny, changes=chosen.change)}
    rival = importlib.util.find_spec("trl") is not None
    if not rival:
        Console().print("trl cannot be imported, so it is left out: run make setup")
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    goals: dict[str, float] = {}
    for name in chosen.case:
        with tempfile.TemporaryDirectory() as scratch:
            case = cases[name](Path(scratch), chosen.rounds or None)
            case = replace(case, micro_batch=chosen.micro_batch or case.micro_batch)
            own, own_ratios = figures_of(name, case, measured(case, rival, Path(scratch)))
        figures |= own
        ratios |= own_ratios
        goals[f"{name}_vs_trl"] = case.goal
    measuring.report(
        chosen.out, "GRPO steps beside TRL's", figures=figures, ratios=ratios, goals=goals
    )


if __name__ == "__main__":
    main()
