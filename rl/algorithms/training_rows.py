"""From scored groups to the learner's rows, and back from its report to each answer."""

import math
from collections.abc import Sequence

import torch

from configs.schema.loss import LossConfig
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import ScoredGroup, UpdateReport
from rl.objectives.advantages import (
    Advantages,
    advantage_of,
    compute_advantages,
    rewards_of,
    tokens_of,
)
from rl.run_log.samples import LoggedGroup, TokenTexts


def step_advantages(groups: Sequence[ScoredGroup], loss: LossConfig) -> Advantages:
    """The advantages of a step as the recipe has them; answers that loss.mask_overlong leaves out
    are not useful."""
    rewards_PG = rewards_of(groups, loss.kl)
    found = compute_advantages(rewards_PG, tokens_of(groups), advantage_of(loss.advantage))
    if not loss.mask_overlong:
        return found
    whole_PG = torch.tensor(
        [[a.finish_reason != "length" for a in scored.group.answers] for scored in groups]
    )
    return Advantages(found.values_PG * whole_PG, found.useful_PG & whole_PG)


def training_rows(
    groups: Sequence[ScoredGroup], advantages: Advantages, *, all_answers: bool = False
) -> list[TrainingRow]:
    """One row a group, with the answers that have something to teach; groups without any are left.

    `all_answers`: those without an advantage, too, since a teacher says something of each.

    An answer's index is its place in the step: group by group, answer by answer.
    """
    rows: list[TrainingRow] = []
    values_PG, useful_PG = advantages.values_PG.tolist(), advantages.useful_PG.tolist()
    place = 0
    for p, scored in enumerate(groups):
        answers: list[TrainingAnswer] = []
        for g, answer in enumerate(scored.group.answers):
            if useful_PG[p][g] or all_answers:
                reference, teacher = scored.reference_logprobs, scored.teacher
                answers.append(
                    TrainingAnswer(
                        index=place,
                        token_ids=answer.token_ids,
                        advantage=values_PG[p][g],
                        sampler_logprobs=answer.logprobs,
                        reference_logprobs=None if reference is None else reference[g],
                        teacher=None if teacher is None else teacher[g],
                        experts=answer.experts,
                    )
                )
            place += 1
        if answers:
            group = scored.group
            rows.append(
                TrainingRow(group.problem, group.prompt_ids, tuple(answers), group.prompt_experts)
            )
    return rows


def logged_groups(
    groups: Sequence[ScoredGroup],
    advantages: Advantages,
    report: UpdateReport,
    token_texts: TokenTexts,
    most_tokens: int | None,
) -> list[LoggedGroup]:
    """Each group with its advantages and the learner's word; None where an answer was left out.

    `most_tokens`: how many get their texts, of whole answers in order; None: all.
    """
    logged: list[LoggedGroup] = []
    room = math.inf if most_tokens is None else most_tokens
    values_PG, useful_PG = advantages.values_PG.tolist(), advantages.useful_PG.tolist()
    place = 0
    for p, scored in enumerate(groups):
        count = len(scored.group.answers)
        learned = tuple(report.answers.get(place + g) for g in range(count))
        values = tuple(
            value if useful else None
            for value, useful in zip(values_PG[p], useful_PG[p], strict=True)
        )
        texts: list[Sequence[str] | None] = []
        for answer in scored.group.answers:
            fits = len(answer.token_ids) <= room
            texts.append(token_texts(answer.token_ids) if fits else None)
            room -= len(answer.token_ids) if fits else 0
        logged.append(LoggedGroup(scored, values, learned, tuple(texts)))
        place += count
    return logged


def learned_metrics(
    groups: Sequence[ScoredGroup], own: Sequence[TrainingRow], rows: Sequence[TrainingRow]
) -> dict[str, float]:
    """What a step learned from: useful_groups, the share of its groups with something to teach,
    and, as shares of the answers asked for, useful_answers of its own and replayed_answers, those
    of earlier steps.

    Args:
        own: rows of the step's groups. rows: all rows of the update, these first.
    """
    asked = sum(len(scored.scores) for scored in groups)
    useful, learned = (sum(len(row.answers) for row in each) for each in (own, rows))
    return {
        "useful_groups": len(own) / len(groups),
        "useful_answers": useful / asked,
        "replayed_answers": (learned - useful) / asked,
    }
