"""Supervised ranks: however a step is packed, sharded and cached, it is the same step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from actors.sft_job import sft_runs
from configs.sft import SFTRecipe
from models.chat_packing import pack_chats
from models.inputs import InputEncoder
from models.parts import part_of
from models.policy import Policy, load_learning_model
from rl.chats import ChatSet
from rl.jsonl import read_lines
from rl.refusal import Refusal
from tests.ray.chats import figures, seen, sft_recipe
from tests.ray.lessons import ALONE, OTHER_FAMILIES, SHARDINGS, Lessons

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def trained(lessons: Lessons) -> dict[str, SFTRecipe]:
    return lessons.recipes


@pytest.fixture(scope="module")
def plain(trained: dict[str, SFTRecipe]) -> list[float]:
    """The same losses by PyTorch alone: one chat at a time, no packing, no DeepSpeed."""
    recipe = trained["alone"]
    encoder = InputEncoder(recipe.policy.path, recipe.encoding, False)
    model = load_learning_model(recipe.policy, recipe.policy.path)
    policy = Policy(model, encoder, temperature=1.0, chunk=64)
    learning = [p for p in policy.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
    chats = ChatSet.open(
        recipe.data,
        measure=encoder.measure_chat,
        max_tokens=128,
        rejected=recipe.run_folder / "again.jsonl",
        seed=recipe.seed,
    )
    losses: list[float] = []
    for step, rows in enumerate(seen(recipe.run_folder)):
        for group in optimizer.param_groups:
            group["lr"] = figures(recipe, "lr")[step - 1] if step else 0.0
        losses.append(_plain_step(policy, encoder, optimizer, chats.chats(rows)))
    return losses


def _plain_step(policy: Policy, encoder: InputEncoder, optimizer: Any, chats: list[Any]) -> float:
    optimizer.zero_grad()
    total: list[Tensor] = []
    for chat in chats:
        packed = pack_chats([[encoder.encode_chat(chat)]], encoder.pad_id)
        logprobs_N, _ = policy(packed, encoder.pixels([chat]))
        total.append(logprobs_N)
    loss = -torch.cat(total).mean()
    loss.backward()
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(learning, 0.5)
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("kind", [*SHARDINGS, *ALONE])
def test_one_and_two_workers_packed_or_not_learn_as_plain_pytorch_does(
    trained: dict[str, SFTRecipe], plain: list[float], kind: str
) -> None:
    assert len(plain) == 3 and plain[2] < plain[0]
    assert figures(trained[kind], "loss") == pytest.approx(plain, abs=1e-4)
    assert figures(trained[kind], "grad_norm") == pytest.approx(
        figures(trained["alone"], "grad_norm"), rel=1e-3
    )


def test_kept_features_change_no_loss(trained: dict[str, SFTRecipe]) -> None:
    off, kept = trained["zero 3"], trained["zero 3, features kept"]
    assert figures(kept, "loss") == pytest.approx(figures(off, "loss"), abs=1e-6)
    shares = figures(kept, "features_kept")  # each of two ranks meets most of 7 pictures once anew
    assert shares[-1] > shares[0] and shares[-1] > 0.25


@pytest.mark.parametrize("kind", [*SHARDINGS, *ALONE])
def test_an_epoch_shows_every_row_once(trained: dict[str, SFTRecipe], kind: str) -> None:
    rows = seen(trained[kind].run_folder)
    assert [len(step) for step in rows] == [8, 8, 6]
    assert sorted(row for step in rows for row in step) == list(range(22))
    assert rows == seen(trained["alone"].run_folder)


@pytest.mark.parametrize("kind", ["zero 0", "zero 3", "zero 3, features kept"])
def test_the_final_policy_is_whole_and_its_frozen_part_as_it_was(
    trained: dict[str, SFTRecipe], vlm_folder: Path, kind: str
) -> None:
    recipe = trained[kind]
    before = load_file(vlm_folder / "model.safetensors")
    after = load_file(recipe.policy_folder / "model.safetensors")
    alone = load_file(trained["alone"].policy_folder / "model.safetensors")
    assert after.keys() == before.keys()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert moved and not any("vision" in name for name in moved)
    for name, value in after.items():
        torch.testing.assert_close(value, alone[name], atol=2e-4, rtol=0)
    InputEncoder(recipe.policy_folder, recipe.encoding, False)


def test_a_sample_says_what_was_learned_and_how_likely_it_was(
    trained: dict[str, SFTRecipe],
) -> None:
    samples = list(read_lines(trained["zero 2"].run_folder / "samples.jsonl"))
    assert [sample["step"] for sample in samples] == [0, 1, 2]
    for sample in samples:
        assert sample["turns"][-1]["role"] == "assistant"
        assert 0 < sample["trained_tokens"] < sample["tokens"]
        assert len(sample["least_likely"]) == 3 and sample["loss"] > 0


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_a_step_of_sft_on_another_family_learns_what_plain_pytorch_would(
    trained: dict[str, SFTRecipe], family: str
) -> None:
    recipe = trained[family]
    encoder = InputEncoder(recipe.policy.path, recipe.encoding, False)
    start = load_learning_model(recipe.policy, recipe.policy.path)
    policy = Policy(start, encoder, temperature=1.0, chunk=64)
    chats = ChatSet.open(
        recipe.data,
        measure=encoder.measure_chat,
        max_tokens=128,
        rejected=recipe.run_folder / "again.jsonl",
        seed=recipe.seed,
    )
    (rows,) = seen(recipe.run_folder)
    logprobs: list[torch.Tensor] = []
    with torch.no_grad():
        for chat in chats.chats(rows):
            packed = pack_chats([[encoder.encode_chat(chat)]], encoder.pad_id)
            logprobs.append(policy(packed, encoder.pixels([chat]))[0])
    assert figures(recipe, "loss") == pytest.approx([-torch.cat(logprobs).mean().item()], abs=1e-4)

    before = load_file(Path(recipe.policy.path) / "model.safetensors")
    after = load_file(recipe.policy_folder / "model.safetensors")
    assert after.keys() == before.keys()
    moved = {part_of(name) for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"projector", "language"}


def test_passes_hand_their_weights_on_and_compute_no_feature_twice(lessons: Lessons) -> None:
    runs = lessons.aligned.runs
    first, second = (list(read_lines(run.run_folder / "evaluations.jsonl")) for run in runs)
    assert second[0]["loss"] == pytest.approx(first[-1]["loss"], abs=1e-5)
    assert first[-1]["loss"] < first[0]["loss"]
    assert min(figures(runs[1], "features_kept")) == 1.0, "the first pass has computed all features"


def test_updates_that_are_refused_end_the_run_at_once_and_say_why(lessons: Lessons) -> None:
    assert "not finite in 3 updates in a row" in lessons.why
    skipped = figures(lessons.diverged, "skipped")
    assert skipped[-2:] == [1.0, 1.0] and skipped[0] == 0.0


def test_what_cannot_run_is_refused_before_workers_start(
    cluster: None, vlm_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=r"policy\.path=.*cannot be read"):
        sft_runs([sft_recipe(tmp_path / "none", tmp_path)])
    with pytest.raises(Refusal, match=r"999 learner x 1"):
        sft_runs([sft_recipe(vlm_folder, tmp_path, learner={"ranks": 999})])
    with pytest.raises(Refusal, match=r"holds no whole checkpoint"):
        sft_runs([sft_recipe(vlm_folder, tmp_path)], resume=True)
    odd = tmp_path / "odd.jsonl"
    odd.write_text('{"asked": "3+5", "said": "8"}\n')
    with pytest.raises(Refusal, match=r"fit no format that is known[^$]*asked: '3\+5'"):
        sft_runs([sft_recipe(vlm_folder, tmp_path, data={"source": str(odd)})])
