"""A packed policy says what transformers says of each answer alone, and learns the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from configs.jobs.grpo import PolicyConfig
from configs.schema.data import PromptConfig
from configs.schema.loss import LossConfig
from configs.schema.rollout import DistributionConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import PackedBatch, pack
from models.policy import attention
from models.policy.loading import load_model, recompute_activations
from models.policy.parts import part_of
from models.policy.policy import Policy
from models.tiny.model import build_tiny_text, build_tiny_vlm
from rl.algorithms.rows import TrainingAnswer, TrainingRow, build_microbatches, count_tokens
from rl.data.records import Problem
from rl.objectives.policy_losses import POLICY_LOSSES, AnswerTokens
from tests.families import FAMILIES
from tests.unit.step_samples import png

TEMPERATURE = 0.8
LENGTHS = ((5, 1, 9), (3, 3), (7, 2, 2, 4))


def load(folder: Path, chunk: int = 4) -> tuple[Policy, InputEncoder]:
    encoder = InputEncoder(folder, PromptConfig(), trust_remote_code=False)
    config = PolicyConfig(path=str(folder), dtype="float32")
    return Policy(
        load_model(config, folder),
        encoder,
        distribution=DistributionConfig(temperature=TEMPERATURE),
        chunk=chunk,
    ), encoder


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, InputEncoder]:
    folder = tmp_path_factory.mktemp("vlm")
    build_tiny_vlm(folder, seed=3)
    return load(folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, InputEncoder]:
    folder = tmp_path_factory.mktemp("text")
    build_tiny_text(folder, seed=3)
    return load(folder)


WITH_IMAGES = (
    Problem(
        "two", "Is <image> more than <image>?", ("1",), (png(56, 56), png(90, 40, (200, 0, 5)))
    ),
    Problem("one", "Add up the digits.", ("2",), (png(40, 99, (1, 200, 90)),)),
    Problem("none", "What is the sum of 3, 5?", ("8",)),
)
WITHOUT = tuple(Problem(str(i), f"What is the sum of {i}, 5?", ("8",)) for i in range(3))


@pytest.fixture(autouse=True, params=["dense", "by spans"])
def attended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows this short would all be dense."""
    monkeypatch.setattr(attention, "_CALL", 10**9 if request.param == "dense" else -(10**9))


def rows_of(encoder: InputEncoder, problems: Sequence[Problem]) -> list[TrainingRow]:
    """Rows of random answers, drawn from tokens that may be drawn."""
    chance = torch.Generator().manual_seed(1)
    rows: list[TrainingRow] = []
    for problem, lengths in zip(problems, LENGTHS, strict=True):
        first = sum(len(row.answers) for row in rows)
        answers = [
            TrainingAnswer(
                index=first + i,
                token_ids=tuple(torch.randint(6, 300, (length,), generator=chance).tolist()),
                advantage=torch.randn((), generator=chance).item(),
                sampler_logprobs=tuple((-7 - torch.rand(length, generator=chance)).tolist()),
            )
            for i, length in enumerate(lengths)
        ]
        rows.append(TrainingRow(problem, encoder.encode(problem), tuple(answers)))
    return rows


def packed_logprobs(
    policy: Policy, encoder: InputEncoder, rows: Sequence[TrainingRow]
) -> tuple[Tensor, Tensor]:
    logprobs_N, entropy_N, _ = policy(packed(encoder, rows))
    return logprobs_N, entropy_N


def packed(encoder: InputEncoder, rows: Sequence[TrainingRow]) -> PackedBatch:
    return pack(tuple(rows), encoder.pad_id, encoder.pixels([row.problem for row in rows]))


def plain_logprobs(policy: Policy, encoder: InputEncoder, rows: Sequence[TrainingRow]) -> Tensor:
    """Each answer alone behind its prompt, through transformers' own forward."""
    found: list[Tensor] = []
    for row in rows:
        pixels = encoder.pixels([row.problem])
        for answer in row.answers:
            ids = torch.tensor([[*row.prompt_ids, *answer.token_ids]])
            logits = policy.model(input_ids=ids, **pixels).logits[0].float() / TEMPERATURE
            logits[:, list(encoder.image_token_ids)] = -torch.inf
            start = len(row.prompt_ids) - 1
            steps = logits[start:-1].log_softmax(-1)
            found.append(steps.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0])
    return torch.cat(found)


def gradient(policy: Policy, loss: Tensor) -> dict[str, Tensor]:
    policy.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}


def policy_loss(logprobs_N: Tensor, batch: PackedBatch) -> Tensor:
    """float32 [N]: GRPO's."""
    assert batch.sampler_logprobs is not None and batch.advantages is not None
    tokens = AnswerTokens(logprobs_N, batch.sampler_logprobs, batch.advantages, batch.answers)
    return POLICY_LOSSES["clip"](tokens, LossConfig())[0]


def step_gradient(
    policy: Policy, encoder: InputEncoder, rows: Sequence[TrainingRow], cut: tuple[int, int]
) -> dict[str, Tensor]:
    """The gradient of a step cut into micro-batches: `cut` is (tokens of one, ranks)."""
    losses: list[Tensor] = []
    for share in build_microbatches(rows, *cut):
        for microbatch in share:
            batch = packed(encoder, microbatch)
            loss, *_ = policy(batch)
            if microbatch:
                loss = policy_loss(loss, batch)
            losses.append((loss * batch.weights).sum())
    return gradient(policy, torch.stack(losses).sum() / count_tokens(rows))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    scale = max(value.abs().max() for value in expected.values())
    assert scale > 1e-3
    for name, value in expected.items():
        assert (found[name] - value).abs().max() < 1e-5 * scale, name


@pytest.mark.parametrize("kind", ["vlm", "text"])
def test_answers_behind_one_prompt_have_the_logprobs_they_have_alone(
    kind: str, request: pytest.FixtureRequest
) -> None:
    policy, encoder = request.getfixturevalue(kind)
    rows = rows_of(encoder, WITH_IMAGES if kind == "vlm" else WITHOUT)
    with torch.no_grad():
        found, entropy = packed_logprobs(policy, encoder, rows)
        torch.testing.assert_close(found, plain_logprobs(policy, encoder, rows), atol=1e-5, rtol=0)
    assert ((entropy > 0) & (entropy < torch.tensor(400.0).log())).all()


def test_the_image_matters_to_the_answers_behind_it(vlm: tuple[Policy, InputEncoder]) -> None:
    policy, encoder = vlm
    rows = rows_of(encoder, WITH_IMAGES)
    batch = packed(encoder, rows)
    swapped = replace(batch, pixels={"pixel_values": batch.pixels["pixel_values"].flip(0)})
    with torch.no_grad():
        gaps = (policy(batch)[0] - policy(swapped)[0]).abs()
    without = torch.tensor([a >= 5 for a in batch.answers.tolist()])
    assert gaps[~without].max() > 1e-4
    assert gaps[without].max() == 0


@pytest.mark.parametrize("kind", ["vlm", "text"])
@pytest.mark.parametrize("cut", [(100, 1), (60, 3), (45, 4)])
def test_no_cut_into_microbatches_changes_the_gradient(
    kind: str, cut: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    policy, encoder = request.getfixturevalue(kind)
    rows = rows_of(encoder, WITH_IMAGES if kind == "vlm" else WITHOUT)
    whole = step_gradient(policy, encoder, rows, (10_000, 1))
    assert_same(step_gradient(policy, encoder, rows, cut), whole)


def test_the_gradient_is_the_one_of_each_answer_alone(vlm: tuple[Policy, InputEncoder]) -> None:
    policy, encoder = vlm
    rows = rows_of(encoder, WITH_IMAGES)
    batch = pack(tuple(rows), encoder.pad_id)
    loss = policy_loss(plain_logprobs(policy, encoder, rows), batch)
    alone = gradient(policy, loss.sum() / count_tokens(rows))
    assert_same(step_gradient(policy, encoder, rows, (10_000, 1)), alone)


def test_padding_and_its_id_change_nothing(vlm: tuple[Policy, InputEncoder]) -> None:
    policy, encoder = vlm
    rows = rows_of(encoder, WITH_IMAGES)
    with torch.no_grad():
        alone = torch.cat([packed_logprobs(policy, encoder, [row])[0] for row in rows])
        pixels = encoder.pixels(WITH_IMAGES)
        for pad_id in (0, 17):
            padded, *_ = policy(pack(tuple(rows), pad_id, pixels))
            torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_a_batch_without_images_runs_the_tower_and_changes_nothing(
    vlm: tuple[Policy, InputEncoder],
) -> None:
    policy, encoder = vlm
    rows = rows_of(encoder, WITHOUT)
    found, _ = packed_logprobs(policy, encoder, rows)
    with torch.no_grad():
        torch.testing.assert_close(
            found.detach(), plain_logprobs(policy, encoder, rows), atol=1e-5, rtol=0
        )
    # Every weight takes part, so that ranks with and without images meet in the same collectives.
    found_gradient = gradient(policy, found.sum())
    with_images = gradient(
        policy, packed_logprobs(policy, encoder, rows_of(encoder, WITH_IMAGES))[0].sum()
    )
    assert found_gradient.keys() == with_images.keys()
    seeing = [n for n in found_gradient if "vision_tower" in n or "multi_modal_projector" in n]
    assert seeing
    assert all((found_gradient[name] == 0).all() for name in seeing)


def test_image_tokens_can_never_be_answered(vlm: tuple[Policy, InputEncoder]) -> None:
    policy, encoder = vlm
    problem = WITH_IMAGES[2]
    answers = tuple(
        TrainingAnswer(i, (token,)) for i, token in enumerate((*encoder.image_token_ids, 77))
    )
    with torch.no_grad():
        found, entropy = packed_logprobs(
            policy, encoder, [TrainingRow(problem, encoder.encode(problem), answers)]
        )
    assert found.exp().tolist()[:-1] == [0.0] * len(encoder.image_token_ids)
    assert found[-1].isfinite() and entropy.isfinite().all()


def test_recomputed_activations_really_are_recomputed_and_nothing_is_dropped_out(
    tmp_path: Path,
) -> None:
    build_tiny_text(tmp_path, seed=0)
    model = load_model(PolicyConfig(path=str(tmp_path), dtype="float32"), tmp_path)
    plain = model.eval()(torch.tensor([[5, 6, 7]])).logits.detach()
    model.model.layers[0].self_attn.attention_dropout = 0.5
    recompute_activations(model)
    calls: list[int] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    logits = model(torch.tensor([[5, 6, 7]]), use_cache=False).logits
    logits.sum().backward()
    assert len(calls) == 2
    assert torch.allclose(logits, plain, atol=1e-6)


def test_recomputation_changes_no_gradient(tmp_path: Path) -> None:
    build_tiny_text(tmp_path, seed=3)
    policy, encoder = load(tmp_path)
    rows = rows_of(encoder, WITHOUT)
    plain = step_gradient(policy, encoder, rows, (1000, 1))
    recompute_activations(policy.model)
    assert_same(step_gradient(policy, encoder, rows, (1000, 1)), plain)


@pytest.mark.parametrize(("family", "depth"), [("internvl, tiled", 3), ("qwen2.5-vl", 2)])
def test_every_layer_of_the_tower_is_made_again_too(
    family: str, depth: int, tmp_path: Path
) -> None:
    FAMILIES[family](tmp_path)
    policy, encoder = load(tmp_path)
    names = [name for name, _ in policy.model.named_modules() if part_of(name) == "vision"]
    layers = [name for name in names if name.endswith(".mlp")]
    assert len(layers) == depth
    calls: Counter[str] = Counter()
    for name in layers:
        layer = policy.model.get_submodule(name)
        layer.register_forward_pre_hook(lambda *_, name=name: calls.update([name]))

    def told() -> dict[str, Tensor]:
        calls.clear()
        logprobs_N, _ = packed_logprobs(policy, encoder, rows_of(encoder, WITH_IMAGES))
        return gradient(policy, logprobs_N.sum())

    plain = told()
    assert calls == dict.fromkeys(layers, 1)
    recompute_activations(policy.model)
    assert_same(told(), plain)
    assert calls == dict.fromkeys(layers, 2)
