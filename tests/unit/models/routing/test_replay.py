"""Routers that are told whom to choose: numbers worked by hand, and whole policies."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from configs.schema.data import PromptConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import PackedBatch, pack
from models.policy.loading import load_model, recompute_activations
from models.policy.policy import Policy
from models.routing.replay import _replay
from rl.algorithms.rows import TrainingAnswer, TrainingRow, split_row
from rl.data.records import Problem
from tests.families import FAMILIES
from tests.own_choices import own_choices, with_choices
from tests.unit.models.learned import learned
from tests.unit.step_samples import png

ANSWERS = ((40, 41, 42, 43, 44), (45, 46), (47, 48, 49))
ADVANTAGES = (1.5, -1.0, 0.5)
MIXTURES = [family for family in FAMILIES if "moe" in family]


@pytest.fixture(scope="module", params=MIXTURES)
def mixture(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TrainingRow]:
    """An encoder of a policy's folder, and a row of three answers."""
    folder = tmp_path_factory.mktemp("mixture")
    FAMILIES[request.param](folder)
    encoder = InputEncoder(folder, PromptConfig(), False)
    problem = Problem("p", "Sum?", ("1",), (png(56, 56),) if encoder.has_vision else ())
    answers = zip(ANSWERS, ADVANTAGES, strict=True)
    own = tuple(TrainingAnswer(i, ids, advantage) for i, (ids, advantage) in enumerate(answers))
    return (folder, encoder), TrainingRow(problem, encoder.encode(problem), own)


def policy_of(made: Any) -> Policy:
    folder, encoder = made
    model = load_model(PolicyConfig(path=str(folder), dtype="float32"), folder)
    return Policy(model, encoder, chunk=4)


def packed(made: Any, row: TrainingRow) -> PackedBatch:
    encoder = made[1]
    return pack((row,), encoder.pad_id, encoder.pixels([row.problem]))


def others(row: TrainingRow, experts: int = 4) -> TrainingRow:
    """The row with two experts for each token and layer of two, drawn at random."""
    drawn = torch.rand(row.length, 2, experts, generator=torch.Generator().manual_seed(3))
    return with_choices(row, drawn.argsort(-1)[..., :2])


def test_a_policy_told_its_own_choices_is_as_it_was(mixture: Any) -> None:
    made, row = mixture
    policy, batch = policy_of(made), packed(made, row)
    own = own_choices(policy, policy.model, batch)
    assert {tuple(sorted(pair)) for pair in own.flatten(0, 1).tolist()} > {(0, 1)}
    told = packed(made, with_choices(row, own.flip(-1)))  # in whatever order
    logprobs, gradient = learned(policy, [batch])
    again, same = learned(policy, [told])
    torch.testing.assert_close(again, logprobs, rtol=0, atol=1e-6)
    assert (same - gradient).norm() < 1e-6 * gradient.norm()


def test_choices_of_another_change_logprobs_and_still_teach_the_router(mixture: Any) -> None:
    made, row = mixture
    policy = policy_of(made)
    before, _ = learned(policy, [packed(made, row)])
    after, _ = learned(policy, [packed(made, others(row))])
    assert (after - before).abs().mean() > 0.01
    for layer in policy.model.get_decoder().layers:
        assert layer.mlp.gate.weight.grad.norm() > 0
    again, _ = learned(policy, [packed(made, row)])
    torch.testing.assert_close(again, before, rtol=0, atol=0)  # nothing is left behind


def test_activations_that_are_made_again_go_to_the_same_experts(mixture: Any) -> None:
    made, row = mixture
    batch = packed(made, others(row))
    expected = learned(policy_of(made), [batch])
    policy = policy_of(made)
    recompute_activations(policy.model)
    logprobs, *_ = policy(batch)
    with torch.no_grad():
        policy(packed(made, row))  # somebody else's choices, before the backward pass
    assert batch.advantages is not None
    (logprobs * batch.advantages).sum().backward()
    torch.testing.assert_close(logprobs, expected[0], rtol=0, atol=1e-6)
    gradients = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    assert (torch.cat(gradients) - expected[1]).norm() < 1e-6 * expected[1].norm()


def test_micro_batches_take_each_answer_s_choices_along(mixture: Any) -> None:
    made, row = mixture
    whole = others(row)
    policy = policy_of(made)
    logprobs, gradient = learned(policy, [packed(made, whole)])
    pieces = split_row(whole, len(row.prompt_ids) + 5)
    assert [len(piece.answers) for piece in pieces] == [2, 1]
    apart, same = learned(policy, [packed(made, piece) for piece in pieces])
    torch.testing.assert_close(apart, logprobs, rtol=0, atol=1e-5)
    assert (same - gradient).norm() < 1e-5 * gradient.norm()


def test_rows_lie_beside_rows_whose_choices_nobody_knows(mixture: Any) -> None:
    made, row = mixture
    encoder = made[1]
    known, unknown = others(row), replace(row, answers=row.answers[1:])
    policy = policy_of(made)
    pixels = encoder.pixels([row.problem, row.problem])
    with torch.no_grad():
        together, *_ = policy(pack((known, unknown), encoder.pad_id, pixels))
        alone = [policy(packed(made, each))[0] for each in (known, unknown)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_choices_lie_where_their_tokens_are() -> None:
    row = TrainingRow(
        Problem("p", "?", ("1",)),
        (7, 8),
        (TrainingAnswer(0, (9, 10, 11)), TrainingAnswer(1, (12,))),
    )
    short = replace(row, answers=row.answers[1:])
    told = with_choices(row, torch.tensor([[[3, 0]], [[1, 2]], [[2, 3]], [[0, 1]]]))
    batch = pack((told, short), pad_id=0)
    assert batch.experts is not None
    assert batch.experts[:, :, 0].tolist() == [
        [[3, 0], [1, 2], [2, 3], [0, 1]],
        [[-1, -1]] * 4,
    ]
    wider = batch.widened(1, 0).experts
    assert wider is not None and wider[:, -1].unique().tolist() == [-1]
    assert pack((row, short), pad_id=0).experts is None


@pytest.mark.parametrize("normed", [True, False])
def test_weights_of_chosen_experts_are_the_router_s_own(normed: bool) -> None:
    """Probabilities of 1/10 to 4/10: the router would choose the last two experts. Each expert
    answers with a number of its own for all tokens."""
    config = Qwen3MoeConfig(
        hidden_size=4,
        moe_intermediate_size=2,
        num_experts=4,
        num_experts_per_tok=2,
        norm_topk_prob=normed,
    )
    block: Any = Qwen3MoeSparseMoeBlock(config)
    block.gate.register_forward_hook(_replay)
    logits = torch.tensor([math.log(p) for p in (0.1, 0.2, 0.3, 0.4)])
    with torch.no_grad():
        block.gate.weight.copy_(torch.diag(logits))
        block.experts.gate_up_proj.fill_(0.25)  # of four ones: silu(1) * 1
        for expert in range(4):
            block.experts.down_proj[expert].fill_(10.0**expert / 2)
    answers = [10.0**expert * torch.sigmoid(torch.tensor(1.0)).item() for expert in range(4)]
    states = torch.ones(1, 3, 4)
    block.gate.chosen = torch.tensor([[0, 1], [2, 0], [-1, -1]])
    made = block(states)
    shares = [(0, 0.1, 1, 0.2), (2, 0.3, 0, 0.1), (3, 0.4, 2, 0.3)]
    expected = [
        (p * answers[a] + q * answers[b]) / (p + q if normed else 1) for a, p, b, q in shares
    ]
    torch.testing.assert_close(made[0, :, 0], torch.tensor(expected))

    # One logit more by d: shares p / (p + q) change by p q / (p + q)^2, or p by p (1 - p) and q
    # by - p q; all four columns of a weight's row see it by their ones.
    block.gate.chosen = torch.tensor([[0, 1], [-1, -1], [-1, -1]])
    (gradient,) = torch.autograd.grad(block(states)[0, 0, 0], block.gate.weight)
    p, q = 0.1, 0.2
    first = p * q / (p + q) ** 2 * (answers[0] - answers[1])
    if not normed:
        first = p * (1 - p) * answers[0] - p * q * answers[1]
    torch.testing.assert_close(gradient[0], torch.full((4,), first))
