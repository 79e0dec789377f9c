"""The supervised loop takes each chat once an epoch, knows its best policy, and stops in time."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.jobs.sft import AlignRecipe, SFTRecipe
from rl.algorithms.early_stopping import EarlyStopping
from rl.algorithms.guards import DivergedError
from rl.algorithms.sft import SFTJob, SFTParts, StepResult, train
from rl.data.chats import ChatIndex
from rl.data.order import ShuffledOrder
from rl.data.records import UpdateReport


def recipe(**changes: Any) -> SFTRecipe:
    fields = {
        "name": "trial",
        "batch_size": 4,
        "data": {"source": "rows.jsonl"},
        "policy": {"path": "some/model"},
        "evaluation": {"data": {"source": "held_out.jsonl"}, "every": 2},
        "checkpoint": {"every": 3},
    }
    return SFTRecipe.model_validate(fields | changes)


def job(chats: int, **changes: Any) -> SFTJob:
    none = np.zeros(chats, np.int32)
    index = ChatIndex(
        chats, np.arange(chats), none, none.astype(np.bool_), Counter(), none.astype(np.uint64)
    )
    return SFTJob(recipe(**changes), index, None, "cpu")


class Rank:
    """A learner whose held-out losses are told beforehand; also the log of what it was asked."""

    def __init__(self, losses: Sequence[float], skipped: Sequence[int] = ()) -> None:
        self._losses = iter(losses)
        self._skipped = skipped
        self.done: list[str] = []
        self.figures: list[Mapping[str, float]] = []

    def update(self, step: int) -> StepResult:
        self.done.append(f"learn {step}")
        return StepResult(UpdateReport({}, {}, (step in self._skipped,)), (), ())

    def held_out(self) -> Mapping[str, float]:
        return {"loss": next(self._losses), "accuracy": 0.5}

    def save(self, step: int) -> None:
        self.done.append(f"save {step}")

    def export_best(self) -> None:
        self.done.append("keep best")

    def write_step(self, step: int, learned: StepResult) -> None:
        self.done.append(f"log {step}")

    def write_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        self.figures.append(figures)
        self.done.append(f"evaluated {step}: {figures['loss']}")


def run(plan: SFTRecipe, rank: Rank, stop: int, **before: Any) -> int:
    parts = SFTParts(rank, rank, before.get("losses", ()))
    return train(plan, parts, before.get("first", 0), stop)


def test_steps_are_learned_logged_evaluated_and_saved_in_this_order() -> None:
    rank = Rank([3.0, 2.0, 1.0])
    assert run(recipe(), rank, stop=4) == 4
    assert rank.done == [
        *("evaluated 0: 3.0", "learn 0", "log 0", "learn 1", "log 1", "evaluated 2: 2.0"),
        *("learn 2", "log 2", "save 3", "learn 3", "log 3", "evaluated 4: 1.0", "save 4"),
    ]
    last = rank.figures[-1]
    assert last["best_loss"] == 1.0 and last["best_step"] == 4
    assert last["accuracy"] == 0.5


def test_a_run_ends_when_held_out_loss_has_not_fallen_for_as_long_as_its_patience() -> None:
    plan = recipe(evaluation=recipe().evaluation.model_copy(update={"patience": 2}))
    rank = Rank([3.0, 2.0, 2.0, 2.5, 1.0])
    assert run(plan, rank, stop=100) == 6
    assert rank.done[-2:] == ["evaluated 6: 2.5", "save 6"]
    again = Rank([1.0])
    losses = [(0, 3.0), (2, 2.0), (4, 2.0), (6, 2.5)]
    assert run(plan, again, stop=100, first=6, losses=losses) == 6, "it had ended already"
    assert not again.done


def test_the_best_policy_is_kept_only_where_it_is_wanted_and_known_across_a_resume() -> None:
    plan = recipe(evaluation=recipe().evaluation.model_copy(update={"result": "best"}))
    rank = Rank([2.5, 1.5, 1.75])
    run(plan, rank, stop=7, first=3, losses=[(0, 3.0), (2, 2.0)])
    told = [what for what in rank.done if "best" in what or "evaluated" in what]
    assert told == ["evaluated 4: 2.5", "keep best", "evaluated 6: 1.5", "evaluated 7: 1.75"]
    assert rank.figures[0]["best_step"] == 2 and rank.figures[1]["best_step"] == 6


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    lowest = EarlyStopping([(0, 2.0)])
    assert not lowest.update(1, math.nan)
    assert (lowest.step, lowest.loss) == (0, 2.0)
    assert lowest.should_stop(1) and not lowest.should_stop(2) and not lowest.should_stop(None)


def test_refused_updates_in_a_row_end_the_run_with_the_field_to_change() -> None:
    plan = recipe(evaluation={})
    run(plan, Rank([], skipped=[0, 1, 3, 4]), stop=6)
    with pytest.raises(DivergedError, match=r"learner.max_skipped_in_a_row=3.*optimizer.lr"):
        run(plan, Rank([], skipped=[1, 2, 3]), stop=6)


def test_an_epoch_ends_with_what_is_left_and_shows_each_chat_once() -> None:
    plan, cursor = job(10), ShuffledOrder(10, seed=0)
    assert plan.steps == 3
    windows = [plan.window(cursor, step) for step in range(3)]
    assert [len(window) for window in windows] == [4, 4, 2]
    assert sorted(place for window in windows for place in window) == list(range(10))


def test_two_epochs_show_each_chat_twice_also_where_one_ends_within_a_step() -> None:
    plan, cursor = job(10, epochs=2.0), ShuffledOrder(10, seed=0)
    shown = [place for step in range(plan.steps) for place in plan.window(cursor, step)]
    assert plan.steps == 5
    assert sorted(shown) == sorted([*range(10), *range(10)])


def test_a_number_of_steps_overrides_epochs() -> None:
    plan, cursor = job(10, steps=7), ShuffledOrder(10, seed=0)
    assert plan.steps == 7
    assert [len(plan.window(cursor, step)) for step in range(7)] == [4] * 7


def test_an_alignments_passes_hand_their_policy_on_and_have_the_papers_learning_rates() -> None:
    whole = AlignRecipe.model_validate(
        {
            "name": "aligned",
            "policy": {"path": "some/model"},
            "log": {"folder": "/runs"},
            "passes": [
                {"data": {"source": "all"}},
                {"data": {"source": "better"}},
                {"data": {"source": "chains"}, "lr": 1e-5, "steps": 9},
            ],
        }
    )
    runs = whole.runs
    assert [run.learner.optimizer.lr for run in runs] == [2e-4, 4e-5, 1e-5]
    assert [run.policy.path for run in runs] == [
        *("some/model", "/runs/aligned/pass_1/policy", "/runs/aligned/pass_2/policy"),
    ]
    assert runs[2].steps == 9 and runs[1].epochs == 1.0
    for run in runs:
        assert run.policy.train == ("projector",) and run.features.keep == "memory"
        assert (run.batch_size, run.prompt.max_tokens) == (512, 16_384)
        assert run.learner.optimizer.weight_decay == 0.05
        assert run.learner.optimizer.warmup_ratio == 0.03
    assert runs[0].policy_folder == Path("/runs/aligned/pass_1/policy")
    optimizer = whole.learner.optimizer.model_copy(update={"lr": 3e-5})
    learner = whole.learner.model_copy(update={"optimizer": optimizer})
    slower = whole.model_copy(update={"learner": learner}).runs
    assert [run.learner.optimizer.lr for run in slower] == [2e-4, 3e-5, 1e-5]


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"policy": {}}, "policy.path is empty"),
        ({"prompt": {"max_tokens": 20_000}}, "prompt.max_tokens=20000 is more than"),
        ({"features": {"keep": "disk"}}, "leave vision out of policy.train"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_with_what_to_change(
    changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        recipe(**changes)
