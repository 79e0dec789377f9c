"""The whole loop, in this process, on a bandit: what it promises whoever provides its parts."""

import math
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from configs.jobs.grpo import GRPORecipe
from rl.algorithms.grpo import train
from rl.algorithms.guards import DivergedError, TooManyUnscored
from rl.algorithms.lookahead import StaleRollout
from rl.algorithms.rows import TrainingRow
from rl.data.records import Problem, Score, UpdateReport
from rl.storage.checkpoints import Best
from rl.storage.jsonl import read_lines
from tests.unit.rl.algorithms.bandit import Bandit, asked_from, by_gold
from tests.unit.step_samples import recipe, score

Make = Callable[..., Bandit]


def small(**changes: Any) -> GRPORecipe:
    rollout = {"group_size": 4, "max_new_tokens": 1}
    return recipe(**{"steps": 10, "problems_per_step": 2, "rollout": rollout, "seed": 5} | changes)


@pytest.fixture
def bandit(tmp_path: Path) -> Make:
    """Makes bandits, each with a folder of its own."""
    made: list[Bandit] = []

    def make(changes: dict[str, Any] | None = None, **settings: Any) -> Bandit:
        made.append(Bandit(small(**changes or {}), tmp_path / str(len(made)), **settings))
        return made[-1]

    return make


def metrics(run: Bandit) -> list[dict[str, Any]]:
    return list(read_lines(run.folder / "metrics.jsonl"))


def samples(run: Bandit) -> list[dict[str, Any]]:
    return list(read_lines(run.folder / "samples.jsonl"))


@pytest.mark.parametrize("staleness", [0, 2])
@pytest.mark.parametrize("advantage", ["group_norm", "group_mean"])
def test_the_reward_rises(bandit: Make, staleness: int, advantage: str) -> None:
    run = bandit({"steps": 80, "max_staleness": staleness, "loss": {"advantage": advantage}})
    assert run.chance_of_right() == pytest.approx(1 / 3)
    run.train(train)
    rewards = [line["reward"] for line in metrics(run)]
    assert len(rewards) == 80
    assert fmean(rewards[:10]) < 0.6 < 0.85 < fmean(rewards[-10:])
    assert run.chance_of_right() > 0.85


def test_problems_are_asked_by_step_with_a_seed_for_each(bandit: Make) -> None:
    run = bandit()
    run.train(train)
    problems = asked_from(run.recipe.seed)
    expected = [
        ([p.id for p in problems.take(2)], run.recipe.seed * 1_000_000 + step) for step in range(10)
    ]
    assert run.engines.asked == expected
    assert [line["step"] for line in metrics(run)] == list(range(10))


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_answers_lag_as_far_as_the_recipe_says_and_no_farther(bandit: Make, staleness: int) -> None:
    run = bandit({"max_staleness": staleness})
    run.train(train)
    lags = [line["max_staleness"] for line in metrics(run)]
    assert lags == [min(step, staleness) for step in range(10)]
    assert run.engines.version == 10
    assert len(run.engines.asked) == 10


@pytest.mark.parametrize("staleness", [0, 2])
def test_a_resumed_run_asks_what_it_would_have_asked(bandit: Make, staleness: int) -> None:
    whole = bandit({"max_staleness": staleness})
    whole.train(train)
    resumed = bandit({"max_staleness": staleness}, first=6)
    resumed.train(train)
    assert resumed.engines.asked == whole.engines.asked[6:]
    assert [line["step"] for line in metrics(resumed)] == [6, 7, 8, 9]


def test_on_policy_a_resumed_run_ends_with_the_same_policy(bandit: Make) -> None:
    whole, half = bandit(), bandit({"steps": 6})
    whole.train(train)
    half.train(train)
    resumed = bandit(first=6)
    resumed.learner.table.update(half.learner.table)
    resumed.engines.sync(6)
    resumed.train(train)
    assert resumed.learner.table == whole.learner.table
    timeless = [{k: v for k, v in line.items() if k != "time"} for line in samples(whole)]
    assert [{k: v for k, v in x.items() if k != "time"} for x in samples(resumed)] == [
        line for line in timeless if line["step"] >= 6
    ]


def test_steps_of_equal_rewards_skip_the_update_and_are_published_all_the_same(
    bandit: Make,
) -> None:
    run = bandit()
    run.engines.judge = lambda problem, arm: score(0.9)
    run.train(train)
    assert run.learner.taught == []
    assert run.engines.version == 10
    assert all(line["useful_groups"] == 0 and "loss" not in line for line in metrics(run))
    assert all(line["advantage"] is None for line in samples(run))


def test_flat_groups_are_left_out_of_a_step_that_has_others(bandit: Make) -> None:
    run = bandit({"steps": 3, "problems_per_step": 6})
    flat = {"0", "3"}
    run.engines.judge = lambda p, arm: score(1.0) if p.id in flat else by_gold(p, arm)
    run.train(train)
    for rows, line in zip(run.learner.taught, metrics(run), strict=True):
        assert not {row.problem.id for row in rows} & flat
        assert line["useful_groups"] == pytest.approx(len(rows) / 6)
    # Places count through flat groups too, so that each figure finds its answer.
    first = run.engines.asked[0][0]
    for row in run.learner.taught[0]:
        start = 4 * first.index(row.problem.id)
        assert [a.index for a in row.answers] == list(range(start, start + 4))


def test_answers_of_earlier_steps_take_the_places_of_those_that_teach_nothing(bandit: Make) -> None:
    run = bandit({"steps": 6, "problems_per_step": 6, "sample_buffer": {"max_age": 1}})
    taught = 0

    def judge(problem: Problem, arm: int) -> Score:
        if len(run.engines.asked) % 2 == 0:  # every second step
            return score(1.0)
        return by_gold(problem, arm)

    run.engines.judge = judge
    run.train(train)
    for step, line in enumerate(metrics(run)):
        if step % 2 == 0:
            assert line["replayed_answers"] == 0 and line["useful_answers"] > 0
            taught = line["useful_answers"]
        else:
            assert line["useful_answers"] == line["useful_groups"] == 0
            assert line["replayed_answers"] == pytest.approx(taught)
            assert "loss" in line
    # What is replayed was sampled a step ago: its places come behind those of the step's own.
    replayed = [a for row in run.learner.taught[1] for a in row.answers]
    assert [a.index for a in replayed] == list(range(24, 24 + len(replayed)))


def test_unscored_answers_are_left_out_of_the_statistics_and_the_update(bandit: Make) -> None:
    def judge(problem: Problem, arm: int) -> Score:
        return score(None) if arm == 2 else score(float(arm == 1), "correct" if arm else "wrong")

    run = bandit({"steps": 4, "problems_per_step": 6, "loss": {"advantage": "group_mean"}})
    run.engines.judge = judge
    run.train(train)
    assert run.learner.taught
    assert all(a.token_ids != (2,) for rows in run.learner.taught for r in rows for a in r.answers)

    for line in metrics(run):
        own = [sample for sample in samples(run) if sample["step"] == line["step"]]
        rewards = [sample["reward"] for sample in own if sample["reward"] is not None]
        assert line["reward"] == pytest.approx(fmean(rewards))
        assert line["unscored_share"] == pytest.approx(1 - len(rewards) / len(own))
    groups = [samples(run)[i : i + 4] for i in range(0, len(samples(run)), 4)]
    for group in groups:
        rewards = [sample["reward"] for sample in group if sample["reward"] is not None]
        for sample in group:
            if sample["reward"] is None or len(set(rewards)) < 2:
                assert sample["advantage"] is None
            else:
                expected = sample["reward"] - fmean(rewards)
                assert sample["advantage"] == pytest.approx(expected)


def test_too_many_unscored_answers_end_the_run_before_they_teach(bandit: Make) -> None:
    run = bandit({"steps": 100, "problems_per_step": 6})
    run.engines.judge = lambda p, arm: score(None) if arm == 0 else by_gold(p, arm)
    with pytest.raises(TooManyUnscored):
        run.train(train)
    # 24 answers a step: the 200th comes in the ninth, which is neither taught nor logged.
    assert len(run.engines.asked) == 9
    assert len(metrics(run)) == 8
    assert len(run.learner.taught) == sum("loss" in line for line in metrics(run))


@pytest.mark.parametrize("staleness", [0, 2])
def test_an_engine_that_misses_its_weights_ends_the_run(bandit: Make, staleness: int) -> None:
    run = bandit({"max_staleness": staleness})
    publish = run.engines.sync
    run.engines.sync = lambda version: publish(min(version, 3))
    with pytest.raises(StaleRollout, match=r"policy version 3, older than version 4"):
        run.train(train)
    assert len(metrics(run)) == 4 + staleness


class Broken:
    """A learner whose gradient is not finite in the steps it was told."""

    def __init__(self, broken: Sequence[int]) -> None:
        self._broken = broken
        self.updates = 0

    def update(self, rows: Sequence[TrainingRow]) -> UpdateReport:
        self.updates += 1
        skipped = self.updates - 1 in self._broken
        loss = math.nan if skipped else 0.5
        return UpdateReport({"loss": loss, "skipped": float(skipped)}, {}, (skipped,))


def test_refused_updates_in_a_row_end_the_run_and_single_ones_are_logged(bandit: Make) -> None:
    run = bandit({"steps": 20, "problems_per_step": 6, "learner": {"max_skipped_in_a_row": 3}})
    run.learner = Broken([1, 2, 5, 7, 8, 9])
    with pytest.raises(DivergedError, match=r"step 9: .* 3 updates in a row"):
        run.train(train)
    lines = metrics(run)
    assert [line["skipped"] for line in lines] == [0, 1, 1, 0, 0, 1, 0, 1, 1]
    assert [line["loss"] for line in lines[:3]] == [0.5, None, None]
    assert run.engines.version == 9
    assert run.saved == []


def test_evaluations_and_checkpoints_come_every_so_many_steps_and_at_the_end(
    bandit: Make,
) -> None:
    seen: list[int] = []
    changes = {
        "steps": 5,
        "evaluation": {"every": 4, "data": {"source": "held_out.parquet"}},
        "checkpoint": {"every": 2},
    }
    run = bandit(changes, evaluate=lambda: {"accuracy": float(len(seen))})
    publish = run.engines.sync

    def note(version: int) -> None:
        seen.append(version)
        publish(version)

    run.engines.sync = note
    run.train(train)
    assert seen == [1, 2, 3, 4, 5]
    evaluations = read_lines(run.folder / "evaluations.jsonl")
    # The engines hold the policy that is told of: as many were published as its steps.
    assert [(line["step"], line["accuracy"]) for line in evaluations] == [(4, 4.0), (5, 5.0)]
    assert run.saved == [2, 4, 5]
    assert run.best.best == Best(5, "accuracy", 5.0)


def test_the_best_policy_by_held_out_accuracy_is_saved_when_it_is_found(bandit: Make) -> None:
    accuracies = iter([0.2, 0.9, 0.5, 0.6, 0.9])
    changes = {
        "steps": 10,
        "evaluation": {"every": 2, "data": {"source": "held_out.parquet"}},
        "checkpoint": {"every": 5},
    }
    run = bandit(changes, evaluate=lambda: {"accuracy": next(accuracies)})
    run.train(train)
    assert run.saved == [2, 4, 5, 10]
    assert run.best.best == Best(4, "accuracy", 0.9)


def test_a_run_that_is_done_already_asks_nothing(bandit: Make) -> None:
    run = bandit(first=10)
    run.train(train)
    assert run.engines.asked == []
    assert run.saved == []


@pytest.mark.parametrize("staleness", [0, 2])
def test_experts_are_asked_for_where_they_are_replayed_and_stay_with_their_answers(
    bandit: Make, staleness: int
) -> None:
    """An engine's expert is called by the version that chose it."""
    rollout = {"group_size": 4, "max_new_tokens": 1, "routing_replay": True}
    run = bandit({"max_staleness": staleness, "rollout": rollout})
    turns = count()
    run.engines.judge = lambda *_: score(float(next(turns) % 2))
    run.train(train)
    told = [{int(row.prompt_experts[0, 0, 0]) for row in rows} for rows in run.learner.taught]
    assert told == [{max(0, step - staleness)} for step in range(10)]
    plain = bandit()
    plain.train(train)
    assert all(row.prompt_experts is None for rows in plain.learner.taught for row in rows)
