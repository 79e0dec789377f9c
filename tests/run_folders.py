"""Folders of small runs, written by the log that real runs write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.jobs.grpo import GRPORecipe
from rl.data.records import Answer, Cause, Group, LearnerTokens, Problem, Score, ScoredGroup
from rl.data.records import Verdict as Said
from rl.run_log.samples import LoggedGroup
from rl.run_log.writer import RunLog
from rl.storage.run_folder import save_recipe
from tests.unit.step_samples import png

LOGPROB = -0.25


@dataclass(frozen=True)
class Told:
    """An answer by its tokens, with what is to be logged of it."""

    tokens: tuple[str, ...]
    reward: float | None = 1.0
    cause: Cause = "correct"
    detail: str = ""
    entropies: tuple[float, ...] = ()
    gaps: tuple[float, ...] = ()
    """Both of each token; empty: the answer was left out of the update."""
    lag: int = 0


def logged_group(
    step: int,
    name: str,
    told: Sequence[Told],
    *,
    question: str = "what?",
    images: tuple[bytes | str, ...] | None = None,
) -> LoggedGroup:
    """A group as the loop logs it, with a picture where `images` is None."""
    shown = (png(30, 20),) if images is None else images
    answers = tuple(
        Answer(
            tuple(range(len(one.tokens))),
            (LOGPROB,) * len(one.tokens),
            "".join(one.tokens),
            "stop",
            step - one.lag,
        )
        for one in told
    )
    scores = tuple(
        Score({"math": Said(one.reward or 0.0, one.cause, one.detail)}, one.reward) for one in told
    )
    learned = tuple(
        LearnerTokens(np.array(one.gaps, np.float32), np.array(one.entropies, np.float32))
        if one.gaps
        else None
        for one in told
    )
    return LoggedGroup(
        ScoredGroup(
            Group(Problem(name, question, ("2",), shown), (1, 2, 3), answers),
            scores,
        ),
        advantages=tuple(one.reward if one.gaps else None for one in told),
        learned=learned,
        token_texts=tuple(one.tokens for one in told),
    )


def recipe_of(folder: Path, **changes: Any) -> GRPORecipe:
    """The recipe of a run in `folder`."""
    log = {"folder": str(folder.parent), "wandb": False, **changes.pop("log", {})}
    return GRPORecipe.model_validate(
        {
            "name": folder.name,
            "steps": 3,
            "policy": {"path": "some/model"},
            "data": {"source": "rows.parquet"},
            "reward": {"weights": {"math": 1.0}},
            "log": log,
            **changes,
        }
    )


def write_run(
    folder: Path, steps: Sequence[Sequence[LoggedGroup]], resume: int | None = None, **changes: Any
) -> Path:
    """A run of `steps`, each of some groups; rewards rise by tenths."""
    recipe = recipe_of(folder, **changes)
    save_recipe(recipe, folder)
    with RunLog(folder, recipe, resume=resume, show=lambda done, text: None) as log:
        for step, groups in enumerate(steps, resume or 0):
            log.write_step(step, {"reward": 0.5 + step / 10, "logprob_gap": 1e-3}, groups)
        log.write_evaluation(len(steps) + (resume or 0), {"accuracy": 0.25})
    return folder
