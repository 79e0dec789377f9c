"""Greedy answers without an engine, for tiny models."""

from collections.abc import Sequence
from typing import Any

import torch

from models.inputs.encoder import InputEncoder
from rl.data.records import Problem


@torch.no_grad()
def greedy_answers(
    model: Any, encoder: InputEncoder, problems: Sequence[Problem], most_tokens: int, batch: int
) -> list[str]:
    """The greedy answer to each problem, decoded.

    Args:
        model: a transformers model.
        encoder: its tokenizer and processor.
        problems: all with images, or all without.
        most_tokens: longest answer, tokens.
        batch: problems at a time.
    """
    answers: list[str] = []
    for start in range(0, len(problems), batch):
        asked = problems[start : start + batch]
        prompts = [encoder.encode(problem) for problem in asked]
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        ids_BT = torch.tensor(
            [[encoder.pad_id] * pad + list(p) for pad, p in zip(padding, prompts, strict=True)]
        )
        seen_BT = torch.tensor([[0] * pad + [1] * (width - pad) for pad in padding])
        made_BT = model.generate(
            input_ids=ids_BT,
            attention_mask=seen_BT,
            **encoder.pixels(asked),
            do_sample=False,
            max_new_tokens=most_tokens,
            suppress_tokens=list(encoder.image_token_ids) or None,
        )
        answers += [encoder.decode(made[width:]) for made in made_BT.tolist()]
    return answers
