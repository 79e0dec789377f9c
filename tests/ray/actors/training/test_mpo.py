"""Ranks that learn from pairs: however packed, sharded and cached, as plain PyTorch does."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from configs.jobs.mpo import MPORecipe
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack_chats
from models.policy.loading import load_learning_model
from models.policy.policy import Policy
from rl.data.chats import ChatSet
from rl.data.records import Chat, Pair
from rl.objectives.preferences import PREFERENCE_FIGURES, mpo_loss, next_delta
from rl.storage.jsonl import read_lines
from tests.ray.chats import seen
from tests.ray.lessons import PREFERRED, Lessons

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Line = dict[str, Any]
TOLD = ("loss", *PREFERENCE_FIGURES)


def lines(recipe: MPORecipe, file: str = "metrics") -> list[Line]:
    return list(read_lines(recipe.run_folder / f"{file}.jsonl"))


@dataclass
class Plain:
    """The same steps by PyTorch alone: one answer at a time, beside a frozen copy of the start."""

    recipe: MPORecipe

    def __post_init__(self) -> None:
        self.encoder = InputEncoder(self.recipe.policy.path, self.recipe.encoding, False)
        self.policy, self.reference = self._policy(), self._policy()
        self.delta = 0.0

    def _policy(self) -> Policy:
        model = load_learning_model(self.recipe.policy, self.recipe.policy.path)
        return Policy(model, self.encoder, chunk=64)

    def pairs(self, data: Any, rows: Sequence[int] | None = None) -> list[Pair]:
        chats = ChatSet.open(
            data,
            measure=self.encoder.measure_chat,
            max_tokens=self.recipe.prompt.max_tokens,
            rejected=self.recipe.run_folder / "again.jsonl",
            seed=self.recipe.seed,
        )
        found = chats.chats(rows if rows is not None else range(len(chats)))
        return [pair for pair in found if isinstance(pair, Pair)]

    def _logprob(self, policy: Policy, chat: Chat) -> tuple[Tensor, int]:
        batch = pack_chats(
            [[self.encoder.encode_chat(chat)]], self.encoder.pad_id, self.encoder.pixels([chat])
        )
        values_N = policy(batch)[0]
        return values_N.sum(), len(values_N)

    def loss(self, pairs: Sequence[Pair]) -> tuple[Tensor, Line]:
        """The mean over pairs, and what is told of them."""
        losses: list[Tensor] = []
        told: list[dict[str, Tensor]] = []
        for pair in pairs:
            (chosen, count), (rejected, _) = (
                self._logprob(self.policy, chat) for chat in (pair.chosen, pair.rejected)
            )
            with torch.no_grad():
                before = [self._logprob(self.reference, c)[0] for c in (pair.chosen, pair.rejected)]
            own, reference = torch.stack([chosen, rejected])[None], torch.stack(before)[None]
            loss, figures = mpo_loss(
                own, reference, torch.tensor([count]), self.delta, self.recipe.loss
            )
            losses.append(loss)
            told.append(figures)
        mean = torch.cat(losses).mean()
        means = {name: fmean(each[name].item() for each in told) for name in PREFERENCE_FIGURES}
        return mean, {"loss": mean.item(), **means}

    def steps(self, lrs: Sequence[float]) -> list[Line]:
        """What is told of each step; AdamW's updates have the learning rates `lrs`."""
        learning = [p for p in self.policy.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learning if p.ndim >= 2], "weight_decay": 0.05},
            {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
        found: list[Line] = []
        for lr, rows in zip(lrs, seen(self.recipe.run_folder), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad()
            loss, told = self.loss(self.pairs(self.recipe.data, rows))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learning, 0.5)
            optimizer.step()
            found.append(told | {"delta": self.delta})
            self.delta = next_delta(self.delta, told["chosen_reward"], told["rejected_reward"], 0.5)
        return found


@pytest.fixture(scope="module")
def plain(lessons: Lessons) -> tuple[list[Line], Line]:
    """The steps, and the held-out pairs behind them."""
    recipe = lessons.preferred["pairs"]
    made = Plain(recipe)
    after = [line["lr"] for line in lines(recipe)]
    steps = made.steps([0.0, *after[:-1]])
    with torch.no_grad():
        _, held_out = made.loss(made.pairs(recipe.evaluation.data))
    return steps, held_out


@pytest.mark.parametrize("kind", PREFERRED)
def test_one_and_two_workers_learn_pairs_as_plain_pytorch_does(
    lessons: Lessons, plain: tuple[list[Line], Line], kind: str
) -> None:
    found = lines(lessons.preferred[kind])
    assert len(found) == 3 and plain[0][2]["margin"] > 0
    for own, expected in zip(found, plain[0], strict=True):
        # Until the policy has learned (the warm-up begins with 0), what it prefers is rounding.
        unsure = {"accuracy"} if abs(expected["margin"]) < 1e-4 else set[str]()
        for name in {*TOLD, "delta"} - unsure:
            assert own[name] == pytest.approx(expected[name], abs=2e-4), name


@pytest.mark.parametrize("kind", PREFERRED)
def test_held_out_pairs_are_asked_before_and_after_with_the_delta_of_the_training(
    lessons: Lessons, plain: tuple[list[Line], Line], kind: str
) -> None:
    before, after = lines(lessons.preferred[kind], "evaluations")
    assert (before["step"], after["step"]) == (0, 3)
    assert before["margin"] == pytest.approx(0, abs=1e-5)
    for name in TOLD:
        assert after[name] == pytest.approx(plain[1][name], abs=2e-4), name


def test_delta_lies_in_the_checkpoint(lessons: Lessons, plain: tuple[list[Line], Line]) -> None:
    recipe = lessons.preferred["pairs"]
    (line,) = read_lines(recipe.run_folder / "checkpoints" / "step_000003" / "preference.json")
    told = plain[0][2]
    rewards = (told["chosen_reward"], told["rejected_reward"])
    assert line["delta"] == pytest.approx(next_delta(told["delta"], *rewards, 0.5), abs=2e-4)


def test_samples_show_both_answers_with_what_the_policy_makes_of_them(lessons: Lessons) -> None:
    sample = lines(lessons.preferred["pairs"], "samples")[-1]
    assert sample["chosen"].startswith("<think>I see") and "3+5=9" in sample["rejected"]
    assert isinstance(sample["chosen_reward"], float)
