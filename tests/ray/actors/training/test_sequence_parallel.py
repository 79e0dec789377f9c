"""Ranks that share rows make the steps that one rank makes alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
import torch

from actors.training.learner import LearnerRank
from actors.training.learner_group import LearnerGroup
from configs.jobs.grpo import GRPORecipe
from models.inputs.encoder import InputEncoder
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from tests.families import FAMILIES
from tests.ray.actors.training.hosts import Hosts
from tests.ray.actors.training.learner_steps import (
    LR,
    distance,
    exported,
    largest_gap,
    milder,
    plan_for,
)
from tests.ray.system import problem

pytestmark = [pytest.mark.ray, pytest.mark.slow]


class Kind(NamedTuple):
    """A policy and how it learns."""

    family: str
    learner: dict[str, Any]
    policy: dict[str, Any]


LORA = {"train": ["language"], "lora": {"rank": 4}}
KINDS = {
    "text": Kind("qwen3", {"zero_stage": 0}, {}),
    "text by adapters": Kind("llama", {"zero_stage": 1}, LORA),
    "R1V's": Kind("internvl, tiled", {"zero_stage": 2, "gradient_checkpointing": True}, {}),
    "M-RoPE": Kind("qwen2.5-vl", {"zero_stage": 3, "gradient_checkpointing": True}, {}),
    "experts, and features in several layers": Kind("qwen3-vl-moe", {"zero_stage": 2}, {}),
}
LENGTHS = ((9, 4, 6), (16,), (11,), (3, 8))
"""Tokens of each row's answers: some share a prompt, some are alone behind one."""


def _plan(kind: Kind, folder: Path, ranks: int) -> GRPORecipe:
    shared = {"ranks": ranks, "sequence_parallel_size": ranks, "logprob_chunk": 5}
    budget = {"max_tokens_per_microbatch": 160}  # two rows at a time
    fields = plan_for(folder, kind.learner | shared | budget).model_dump()
    fields["policy"] |= kind.policy
    fields["reference"] = {"place": "learner"}
    return GRPORecipe.model_validate(fields)


def _rows(plan: GRPORecipe, folder: Path) -> list[TrainingRow]:
    """Every second row has a picture, where the policy reads them."""
    encoder = InputEncoder(folder, plan.prompt, False)
    drawn = torch.Generator().manual_seed(0)
    rows: list[TrainingRow] = []
    for place, lengths in enumerate(LENGTHS):
        one = problem(place, images=(place + 1) % 2 if encoder.has_vision else 0)
        answers = tuple(
            TrainingAnswer(
                10 * place + i,
                tuple(torch.randint(40, 300, (length,), generator=drawn).tolist()),
                advantage=(-1.5, 2.0, 0.7)[i],
            )
            for i, length in enumerate(lengths)
        )
        rows.append(TrainingRow(one, encoder.encode(one), answers))
    return rows


def _sampled(rows: list[TrainingRow], known: dict[int, tuple[float, ...]]) -> list[TrainingRow]:
    """The rows as if a policy a little beside the one of `known` logprobs had written them."""

    def sampler(index: int) -> tuple[float, ...]:
        return tuple(
            value + 0.3 * torch.sin(torch.tensor(float(place + index))).item()
            for place, value in enumerate(known[index])
        )

    return [
        replace(
            row,
            answers=tuple(replace(a, sampler_logprobs=sampler(a.index)) for a in row.answers),
        )
        for row in rows
    ]


class Learned(NamedTuple):
    """What came of two updates."""

    logprobs: dict[int, tuple[float, ...]]
    """Of all answers before them."""
    first: dict[str, float]
    second: dict[str, float]
    weights: dict[str, torch.Tensor]


def _learned(group: LearnerGroup, rows: list[TrainingRow], spare: Path) -> Learned:
    logprobs = group.logprobs(rows)
    rows = _sampled(rows, logprobs)
    reports = [dict(group.update(each).metrics) for each in (rows, milder(rows))]
    return Learned(logprobs, *reports, exported(group, spare))


def _place_in_row(learner: LearnerRank) -> int:
    return learner._engine.policy._group.rank


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_two_ranks_that_share_rows_learn_what_one_learns_alone(
    kind: Kind, hosts: Hosts, tmp_path: Path
) -> None:
    folder = tmp_path / "policy"
    FAMILIES[kind.family](folder)
    group = hosts.group(_plan(kind, folder, 1), folder)
    start = exported(group, tmp_path / "start")
    rows = _rows(_plan(kind, folder, 1), folder)
    alone = _learned(group, rows, tmp_path / "alone")
    group = hosts.group(_plan(kind, folder, 2), folder)
    places = [rank.__ray_call__.remote(_place_in_row) for rank in group._ranks]
    assert ray.get(places) == [0, 1]
    shared = _learned(group, rows, tmp_path / "shared")
    assert shared.logprobs.keys() == {a.index for row in rows for a in row.answers}
    for index, values in alone.logprobs.items():
        assert shared.logprobs[index] == pytest.approx(values, abs=1e-5)
    assert abs(alone.first["kl"]) < 1e-6 < alone.second["kl"]
    for name in ("loss", "grad_norm", "entropy", "clip_share", "logprob_gap", "kl"):
        for theirs, ours in ((alone.first, shared.first), (alone.second, shared.second)):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-4, abs=1e-6), name
    # Adam makes a step of nearly no gradient by its sign: single weights may be a little apart.
    assert largest_gap(shared.weights, alone.weights) < 0.5 * LR
    assert distance(shared.weights, alone.weights) < 1e-3 * distance(alone.weights, start)
