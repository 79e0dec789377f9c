"""Supervised ranks: however a step is packed, sharded and cached, it is the same step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from configs.jobs.sft import SFTRecipe
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack_chats
from models.policy import attention
from models.policy.loading import load_learning_model
from models.policy.parts import part_of
from models.policy.policy import Policy
from rl.console.errors import UserError
from rl.data.chats import ChatSet
from rl.data.records import Chat
from rl.jobs.sft import sft_runs
from rl.storage.jsonl import read_lines
from tests.ray.chats import figures, seen, sft_recipe
from tests.ray.lessons import ALONE, LONG, OTHER_FAMILIES, SHARDINGS, Lessons

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def trained(lessons: Lessons) -> dict[str, SFTRecipe]:
    return lessons.recipes


def begun(recipe: SFTRecipe) -> tuple[Policy, InputEncoder, ChatSet]:
    """The policy as it was before the run, and the run's chats."""
    encoder = InputEncoder(recipe.policy.path, recipe.encoding, False)
    start = load_learning_model(recipe.policy, recipe.policy.path)
    chats = ChatSet.open(
        recipe.data,
        measure=encoder.measure_chat,
        max_tokens=recipe.prompt.max_tokens,
        rejected=recipe.run_folder / "again.jsonl",
        seed=recipe.seed,
    )
    return Policy(start, encoder, chunk=64), encoder, chats


def mean_loss(policy: Policy, encoder: InputEncoder, chats: Sequence[Chat]) -> Tensor:
    """Of all trained tokens, in nats, each chat by itself."""
    logprobs = [
        policy(pack_chats([[encoder.encode_chat(chat)]], encoder.pad_id, encoder.pixels([chat])))[0]
        for chat in chats
    ]
    return -torch.cat(logprobs).mean()


def ways_of_attending(policy: Policy, patch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each forward pass from now on: by "spans", or under a "mask"."""
    ways: list[str] = []
    forward = policy.model.model.forward

    def noted(*args: Any, **inputs: Any) -> Any:
        ways.append("mask" if inputs.get("spans") is None else "spans")
        return forward(*args, **inputs)

    patch.setattr(policy.model.model, "forward", noted)
    return ways


@pytest.fixture(scope="module")
def plain(trained: dict[str, SFTRecipe]) -> list[float]:
    """The same losses by PyTorch alone: one chat at a time, no packing, no DeepSpeed."""
    recipe = trained["alone"]
    policy, encoder, chats = begun(recipe)
    learning = [p for p in policy.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
    losses: list[float] = []
    for step, rows in enumerate(seen(recipe.run_folder)):
        for group in optimizer.param_groups:
            group["lr"] = figures(recipe, "lr")[step - 1] if step else 0.0
        losses.append(_plain_step(policy, encoder, optimizer, chats.chats(rows)))
    return losses


def _plain_step(policy: Policy, encoder: InputEncoder, optimizer: Any, chats: list[Chat]) -> float:
    optimizer.zero_grad()
    loss = mean_loss(policy, encoder, chats)
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


@pytest.mark.parametrize("kind", ["zero 2, rows shared"])
def test_ranks_that_share_rows_cut_a_step_as_one_does(
    trained: dict[str, SFTRecipe], kind: str
) -> None:
    for name in ("packs", "pack_fill", "tokens", "trained_tokens", "chats"):
        assert figures(trained[kind], name) == figures(trained["alone"], name)
    assert figures(trained["zero 2"], "packs") != figures(trained["alone"], "packs")


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


@pytest.mark.parametrize(
    "kind", ["zero 0", "zero 3", "zero 3, features kept", "zero 3, unpacked rows shared"]
)
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


@pytest.mark.parametrize("kind", [*OTHER_FAMILIES, LONG])
def test_a_step_on_another_family_or_on_long_chats_learns_what_plain_pytorch_would(
    trained: dict[str, SFTRecipe], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = trained[kind]
    policy, encoder, chats = begun(recipe)
    (rows,) = seen(recipe.run_folder)
    told = figures(recipe, "loss")
    for call in (attention._CALL, 10**9):  # as in the run, and all under a dense mask
        monkeypatch.setattr(attention, "_CALL", call)
        ways = ways_of_attending(policy, monkeypatch)
        with torch.no_grad():
            loss = mean_loss(policy, encoder, chats.chats(rows))
        by_spans = kind == LONG and call < 10**9
        assert ways == ["spans" if by_spans else "mask"] * len(rows)
        assert told == pytest.approx([loss.item()], abs=1e-4)

    before = load_file(Path(recipe.policy.path) / "model.safetensors")
    after = load_file(recipe.policy_folder / "model.safetensors")
    assert after.keys() == before.keys()
    moved = {part_of(name) for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"projector", "language"}


def test_passes_hand_their_weights_on_and_compute_no_feature_twice(lessons: Lessons) -> None:
    runs = lessons.aligned.runs
    assert lessons.handed_on == runs[1].policy_folder and lessons.handed_on.is_dir()
    first, second = (list(read_lines(run.run_folder / "evaluations.jsonl")) for run in runs)
    assert second[0]["loss"] == pytest.approx(first[-1]["loss"], abs=1e-5)
    assert first[-1]["loss"] < first[0]["loss"]
    assert min(figures(runs[1], "features_kept")) == 1.0, "the first pass has computed all features"


def test_what_cannot_run_is_refused_before_workers_start(
    cluster: None, vlm_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"policy\.path=.*cannot be read"):
        sft_runs([sft_recipe(tmp_path / "none", tmp_path)])
    with pytest.raises(UserError, match=r"999 learner x 1"):
        sft_runs([sft_recipe(vlm_folder, tmp_path, learner={"ranks": 999})])
    with pytest.raises(UserError, match=r"holds no whole checkpoint"):
        sft_runs([sft_recipe(vlm_folder, tmp_path)], resume=True)
    odd = tmp_path / "odd.jsonl"
    odd.write_text('{"asked": "3+5", "said": "8"}\n')
    with pytest.raises(UserError, match=r"fit no format that is known[^$]*asked: '3\+5'"):
        sft_runs([sft_recipe(vlm_folder, tmp_path, data={"source": str(odd)})])
