"""The teacher of on-policy distillation: what a frozen model thinks of sampled tokens."""

from dataclasses import replace

import numpy as np
import torch

from actors.cluster.object_refs import SharedBatches
from actors.scoring.reference import FrozenPolicy
from models.inputs.packing import PackedBatch
from rl.data.records import Problem, TeacherTokens


def told_more(problem: Problem, context: str | None) -> Problem:
    """The problem with `context` in place of its question, its braces filled in.

    Args:
        context: text with {question}, {answer} (the first accepted form) and names of the
            problem's further fields in braces; None: the problem as it is.
    """
    if context is None:
        return problem
    known = {"question": problem.question, "answer": problem.gold[0], **problem.fields}
    return replace(problem, question=context.format_map(known))


class TeacherPolicy(FrozenPolicy):
    """A teacher. A plain class; the cluster makes it a Ray actor."""

    def tokens(
        self, share: SharedBatches, context: str | None, top_k: int | None
    ) -> tuple[TeacherTokens, ...]:
        """What it thinks of each answer's tokens, in the order of the one row's answers.

        It reads the problem by its own processor, since another size may cut pictures otherwise.
        `context`, `top_k`: the recipe's teacher.context and loss.distill.top_k.
        """
        (((row,),),) = (share.open(),)
        problem = told_more(row.problem, context)
        row = replace(row, problem=problem, prompt_ids=self._encoder.encode(problem))
        vocabulary = len(self._encoder.tokenizer)
        count = vocabulary if top_k is None else top_k
        return tuple(
            tokens
            for batch in self._batches(row)
            for tokens in _by_answer(batch, *self._policy.likeliest(batch, count, vocabulary))
        )


def _by_answer(
    batch: PackedBatch, chosen_N: torch.Tensor, ids_NK: torch.Tensor, values_NK: torch.Tensor
) -> list[TeacherTokens]:
    """The parts of each of the batch's answers, in their order."""
    lengths = torch.unique_consecutive(batch.answers, return_counts=True)[1]
    ends = lengths.cumsum(0).tolist()
    parts = (
        chosen_N.cpu().numpy(),
        ids_NK.cpu().numpy().astype(np.int32),
        values_NK.cpu().numpy(),
    )
    return [
        TeacherTokens(*(part[begin:end] for part in parts))
        for begin, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
