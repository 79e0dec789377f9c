"""A group's answers share one copy of their prompt and its image, in models of every family."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from configs.schema.data import PromptConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy.loading import load_model
from models.policy.policy import Policy
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem
from tests.families import FAMILIES
from tests.unit.models.learned import learned

ANSWERS = ((40, 41, 42, 43, 44), (45, 46), (47, 48, 49))


def problem(has_vision: bool) -> Problem:
    noise = np.random.default_rng(0).integers(0, 256, (56, 112, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, format="PNG")
    return Problem("p", "What is it?", ("1",), (encoded.getvalue(),) if has_vision else ())


def run(policy: Policy, encoder: InputEncoder, rows: list[TrainingRow]) -> tuple[Tensor, Tensor]:
    """Logprobs of all answers behind one another, and the gradient of their weighted sum."""
    packed = [pack((row,), encoder.pad_id, encoder.pixels([row.problem])) for row in rows]
    return learned(policy, packed)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_behind_one_prompt_have_the_logprobs_and_gradient_of_each_alone(
    family: str, tmp_path: Path
) -> None:
    FAMILIES[family](tmp_path)
    encoder = InputEncoder(tmp_path, PromptConfig(), False)
    model = load_model(PolicyConfig(path=str(tmp_path), dtype="float32"), tmp_path)
    policy = Policy(model, encoder, chunk=4)
    asked = problem(encoder.has_vision)
    answers = tuple(
        TrainingAnswer(i, ids, advantage)
        for i, (ids, advantage) in enumerate(zip(ANSWERS, (1.5, -1.0, 0.5), strict=True))
    )
    whole = TrainingRow(asked, encoder.encode(asked), answers)
    shared, shared_gradient = run(policy, encoder, [whole])
    alone, gradient = run(policy, encoder, [replace(whole, answers=(a,)) for a in answers])
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-5)
    assert (shared_gradient - gradient).norm() < 1e-5 * gradient.norm()
