"""Ranks that share rows make the steps that one rank makes alone."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
import torch
from safetensors.torch import load_file

from actors.cluster.object_refs import SharedBatches
from actors.training.learner import LearnerRank
from actors.training.learner_group import LearnerGroup
from actors.training.sft_rank import SFTRank
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import SFTRecipe
from models.inputs.encoder import InputEncoder
from models.policy.policy import logprobs_by_answer
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.algorithms.sft import SFTJob
from rl.jobs.sft import prepared
from rl.storage.checkpoints import Checkpoints
from tests.families import FAMILIES
from tests.own_choices import with_choices
from tests.ray.actors.training.hosts import Hosts
from tests.ray.actors.training.learner_steps import (
    LR,
    distance,
    exported,
    largest_gap,
    milder,
    plan_for,
)
from tests.ray.chats import chat_file, mpo_recipe, sft_recipe
from tests.ray.system import problem

pytestmark = [pytest.mark.ray, pytest.mark.slow]


class Kind(NamedTuple):
    """A policy and how it learns."""

    family: str
    learner: dict[str, Any]
    policy: dict[str, Any]
    routed: bool = False
    """Its tokens go to experts that it is told."""


LORA = {"train": ["language"], "lora": {"rank": 4}}
KINDS = {
    "text": Kind("qwen3", {"zero_stage": 0}, {}),
    "text by adapters": Kind("llama", {"zero_stage": 1}, LORA),
    "R1V's": Kind("internvl, tiled", {"zero_stage": 2, "gradient_checkpointing": True}, {}),
    "M-RoPE": Kind("qwen2.5-vl", {"zero_stage": 3, "gradient_checkpointing": True}, {}),
    "experts, and features in several layers": Kind("qwen3-vl-moe", {"zero_stage": 2}, {}, True),
}
OWN_TO_RANKS = {"seconds", "tokens_per_s", "packs", "pack_fill"}
"""Figures that tell of how a supervised step was cut and how long it took."""
LENGTHS = ((9, 4, 6), (16,), (11,), (3, 8))
"""Tokens of each row's answers: some share a prompt, some are alone behind one."""


def _plan(kind: Kind, folder: Path, ranks: int) -> GRPORecipe:
    shared = {"ranks": ranks, "sequence_parallel_size": min(2, ranks), "logprob_chunk": 5}
    budget = {"max_tokens_per_microbatch": 160}  # two rows at a time
    fields = plan_for(folder, kind.learner | shared | budget).model_dump()
    fields["policy"] |= kind.policy
    fields["reference"] = {"place": "learner"}
    return GRPORecipe.model_validate(fields)


def _rows(kind: Kind, plan: GRPORecipe, folder: Path) -> list[TrainingRow]:
    """Every second row has a picture, where the policy reads them; experts are any two of four."""
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
    if kind.routed:
        drawn_TLE = [torch.rand(row.length, 2, 4, generator=drawn) for row in rows]
        pairs = [each.argsort(-1)[..., :2] for each in drawn_TLE]
        return [with_choices(row, own) for row, own in zip(rows, pairs, strict=True)]
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


def _said_by_the_reference(learner: LearnerRank, share: SharedBatches) -> dict[int, Any]:
    batches = [batch.to(learner._engine.device) for batch in learner._packed(share)]
    said = [logprobs_by_answer(batch, learner._reference(batch)) for batch in batches]
    return {index: values for own in said for index, values in own.items()}


def _asked_alike(
    group: LearnerGroup, rows: list[TrainingRow]
) -> list[dict[int, tuple[float, ...]]]:
    """What the reference says of each row's answers, by rank."""
    calls = [
        rank.__ray_call__.remote(_said_by_the_reference, share)
        for rank, share in zip(group._ranks, group._shares(rows), strict=True)
    ]
    return ray.get(calls)


def _check_same_steps(shared: Learned, alone: Learned, start: dict[str, torch.Tensor]) -> None:
    for index, values in alone.logprobs.items():
        assert shared.logprobs[index] == pytest.approx(values, abs=1e-5)
    for name in ("loss", "grad_norm", "entropy", "clip_share", "logprob_gap", "kl"):
        for theirs, ours in ((alone.first, shared.first), (alone.second, shared.second)):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-4, abs=1e-6), name
    # Adam makes a step of nearly no gradient by its sign: single weights may be a little apart.
    assert largest_gap(shared.weights, alone.weights) < 0.5 * LR
    assert distance(shared.weights, alone.weights) < 1e-3 * distance(alone.weights, start)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_two_ranks_that_share_rows_learn_what_one_learns_alone(
    kind: Kind, hosts: Hosts, tmp_path: Path
) -> None:
    folder = tmp_path / "policy"
    FAMILIES[kind.family](folder)
    group = hosts.group(_plan(kind, folder, 1), folder)
    start = exported(group, tmp_path / "start")
    rows = _rows(kind, _plan(kind, folder, 1), folder)
    alone = _learned(group, rows, tmp_path / "alone")
    (reference,) = _asked_alike(group, rows)
    group = hosts.group(_plan(kind, folder, 2), folder)
    places = [rank.__ray_call__.remote(_place_in_row) for rank in group._ranks]
    assert ray.get(places) == [0, 1]
    shared = _learned(group, rows, tmp_path / "shared")
    indices = {a.index for row in rows for a in row.answers}
    assert shared.logprobs.keys() == reference.keys() == indices
    _check_same_steps(shared, alone, start)
    # The reference chooses experts itself, and the policy that is told others is not the same.
    at_first = alone.first["kl"]
    assert at_first > 0.01 if kind.routed else abs(at_first) < 1e-6 < alone.second["kl"]
    for said in _asked_alike(group, rows):  # the learner has moved since, and it has not
        for index, values in reference.items():
            assert said[index] == pytest.approx(values, abs=1e-5)
            assert values == pytest.approx(alone.logprobs[index], abs=1e-5)


def _supervised(learner: LearnerRank, job: SFTJob) -> list[Mapping[str, float]]:
    """What a rank tells of each step of `job`, and of the rows held out for it behind them."""
    kept = Checkpoints(job.recipe.run_folder / "checkpoints", 1)
    rank = SFTRank(job, kept, 0, None, torch.device("cpu"))
    told = [rank.update(step).report.metrics for step in range(job.steps)]
    told.append(rank.held_out())
    rank._export(job.recipe.policy_folder)
    rank.close()
    return told


def _learned_supervised(
    group: LearnerGroup, recipe: SFTRecipe
) -> tuple[list[Mapping[str, float]], dict[str, torch.Tensor]]:
    """The same of a recipe's job on the ranks of `group`, and the weights behind it."""
    recipe.run_folder.mkdir(parents=True)
    encoder = InputEncoder(recipe.policy.path, recipe.encoding, False)
    job = prepared(recipe, encoder, "cpu", recipe.run_folder)
    told, *others = ray.get([rank.__ray_call__.remote(_supervised, job) for rank in group._ranks])
    for step, mine in enumerate(told):
        for other in others:
            assert all(other[step][name] == mine[name] for name in mine.keys() - OWN_TO_RANKS)
    return told, load_file(recipe.policy_folder / "model.safetensors")


def _recipe_of(
    preferences: bool, policy: Path, folder: Path, group: LearnerGroup, **learner: Any
) -> SFTRecipe:
    ranks = {"ranks": len(group._ranks), "sequence_parallel_size": group._ranks_per_row}
    own = {"name": f"{preferences}_{len(group._ranks)}", "learner": learner | ranks}
    if preferences:
        return mpo_recipe(policy, folder, **own)
    held_out = {"data": {"source": str(chat_file(folder, 6))}}
    return sft_recipe(policy, folder, evaluation=held_out, **own)


def test_two_groups_of_two_ranks_learn_what_one_rank_learns_from_answers_chats_and_pairs(
    hosts: Hosts, vlm_folder: Path, tmp_path: Path
) -> None:
    kind = KINDS["R1V's"]
    rows = _rows(kind, _plan(kind, vlm_folder, 1), vlm_folder)
    groups: list[LearnerGroup] = []
    learned: list[Learned] = []
    for ranks in (1, 4):
        group = hosts.group(_plan(kind, vlm_folder, ranks), vlm_folder)
        start = exported(group, tmp_path / f"start_{ranks}")
        learned.append(_learned(group, rows, tmp_path / f"learned_{ranks}"))
        groups.append(group)
    places = [rank.__ray_call__.remote(_place_in_row) for rank in groups[1]._ranks]
    assert ray.get(places) == [0, 1, 0, 1]
    _check_same_steps(learned[1], learned[0], start)
    assert abs(learned[0].first["kl"]) < 1e-6 < learned[0].second["kl"]

    for preferences in (False, True):
        (alone, weights), (shared, ours) = (
            _learned_supervised(
                group, _recipe_of(preferences, vlm_folder, tmp_path, group, zero_stage=2)
            )
            for group in groups
        )
        assert len(alone) == len(shared) == 4
        for theirs, mine in zip(alone, shared, strict=True):
            # Before the policy has learned, which answer it prefers is rounding.
            unsure = {"accuracy"} if abs(theirs.get("margin", 1.0)) < 1e-4 else set[str]()
            for name in theirs.keys() - OWN_TO_RANKS - unsure:
                assert mine[name] == pytest.approx(theirs[name], rel=2e-4, abs=1e-5), name
        assert largest_gap(ours, weights) < 2e-4
