"""A teacher says of each token what transformers says, and of its likeliest ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.cluster.object_refs import SharedBatches
from actors.scoring import teacher as module
from actors.scoring.teacher import TeacherPolicy, told_more
from configs.schema.data import PromptConfig
from configs.schema.learner import LearnerConfig
from configs.schema.policy import ModelConfig
from configs.schema.rollout import DistributionConfig
from models.policy.loading import load_model
from models.tiny.model import build_tiny_vlm
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem
from tests.unit.step_samples import png

PROBLEM = Problem("p", "Add <image>", ("12", "twelve"), (png(56, 56),), {"digits": [3, 9]})
ANSWERS = (TrainingAnswer(0, (6, 7, 8)), TrainingAnswer(1, (9,)), TrainingAnswer(2, (6, 9)))
CONTEXT = "{question} It is {answer}, from {digits}."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("teacher")
    build_tiny_vlm(made, seed=5)
    return made


@pytest.fixture(scope="module")
def policy(folder: Path) -> TeacherPolicy:
    return TeacherPolicy(
        folder,
        ModelConfig(path=str(folder), dtype="float32"),
        PromptConfig(),
        learner=LearnerConfig(max_tokens_per_microbatch=64, logprob_chunk=2),
        distribution=DistributionConfig(temperature=0.7),
        device="cpu",
    )


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows as they are, in place of an object store."""
    monkeypatch.setattr(SharedBatches, "open", lambda self: list(self.batches))


def row() -> Any:
    # A prompt of another processor: the teacher reads the problem itself.
    return module.SharedBatches([(TrainingRow(PROBLEM, (1, 2), ANSWERS),)], [])


def expected(folder: Path, policy: TeacherPolicy, problem: Problem) -> list[torch.Tensor]:
    """float32 [T, V] of each answer, alone behind its prompt."""
    encoder = policy._encoder
    model = load_model(ModelConfig(path=str(folder), dtype="float32"), folder)
    prompt = encoder.encode(problem)
    found: list[torch.Tensor] = []
    for answer in ANSWERS:
        ids = torch.tensor([[*prompt, *answer.token_ids]])
        with torch.no_grad():
            logits = model(input_ids=ids, **encoder.pixels([problem])).logits[0].float() / 0.7
        logits[:, list(encoder.image_token_ids)] = -torch.inf
        found.append(logits[len(prompt) - 1 : -1].log_softmax(-1))
    return found


@pytest.mark.parametrize("context", [None, CONTEXT])
def test_its_logprobs_are_those_of_each_answer_alone(
    folder: Path, policy: TeacherPolicy, context: str | None
) -> None:
    found = policy.tokens(row(), context, 3)
    for tokens, answer, exact in zip(
        found, ANSWERS, expected(folder, policy, told_more(PROBLEM, context)), strict=True
    ):
        chosen = exact.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        np.testing.assert_allclose(tokens.logprobs, chosen.numpy(), atol=1e-4)
        top = exact.topk(3)
        np.testing.assert_allclose(tokens.top_logprobs, top.values.numpy(), atol=1e-4)
        assert tokens.top_ids.tolist() == top.indices.tolist()


def test_no_or_all_tokens_can_be_asked_for(policy: TeacherPolicy) -> None:
    assert policy.tokens(row(), None, 0)[0].top_ids.shape == (3, 0)
    every = policy.tokens(row(), None, None)[0]
    assert every.top_ids.shape == (3, len(policy._encoder.tokenizer))
    np.testing.assert_allclose(np.exp(every.top_logprobs).sum(1), 1.0, atol=1e-4)


def test_what_it_is_told_beside_the_question_fills_the_braces() -> None:
    told = told_more(PROBLEM, CONTEXT)
    assert told.question == "Add <image> It is 12, from [3, 9]."
    assert told.images == PROBLEM.images
    assert told_more(PROBLEM, None) is PROBLEM
