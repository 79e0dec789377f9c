"""For groups that teach nothing exactly as many others are asked, up to a bound, and each problem
counts once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rl.algorithms.grpo import train
from rl.data.records import Problem, Score, ScoredGroup
from rl.storage.jsonl import read_lines
from tests.unit.rl.algorithms.bandit import QUESTIONS, Bandit, asked_from
from tests.unit.step_samples import recipe, score

FLAT = {"0", "3"}


def judged(flat: set[str]) -> Callable[[Problem, int], Score]:
    """Rewards that differ between a group's answers, but for some problems."""
    calls = iter(range(10**6))
    return lambda problem, _: score(1.0 if problem.id in flat else float(next(calls) % 2))


def bandit(folder: Path, flat: set[str] = FLAT, first: int = 0, **changes: Any) -> Bandit:
    rollout = {"group_size": 4, "max_new_tokens": 1, "dynamic_sampling": {"max_extra": 2.0}}
    plan = {"steps": 4, "problems_per_step": 3, "rollout": rollout, "seed": 5} | changes
    run = Bandit(recipe(**plan), folder, first=first)
    run.engines.judge = judged(flat)
    return run


def metrics(run: Bandit) -> list[dict[str, Any]]:
    return list(read_lines(run.folder / "metrics.jsonl"))


@pytest.mark.parametrize("staleness", [0, 2])
def test_every_step_learns_from_as_many_groups_as_it_asks_for(
    tmp_path: Path, staleness: int
) -> None:
    run = bandit(tmp_path, max_staleness=staleness)
    run.train(train)
    assert [len(rows) for rows in run.learner.taught] == [3] * 4
    assert not {row.problem.id for rows in run.learner.taught for row in rows} & FLAT
    for line in metrics(run):
        asked = 3 + line["extra_problems"]
        assert line["flat_share"] == pytest.approx(line["extra_problems"] / asked)
        assert line["useful_groups"] == pytest.approx(3 / asked)
        assert line["max_staleness"] <= staleness


def test_exactly_as_many_are_asked_as_were_flat_and_no_problem_is_passed_over(
    tmp_path: Path,
) -> None:
    run = bandit(tmp_path)
    run.train(train)
    asked = [name for names, _ in run.engines.asked for name in names]
    assert asked == [p.id for p in asked_from(5).take(len(asked))]
    missing = 0
    for names, _ in run.engines.asked:
        assert len(names) == (missing or 3)
        missing = sum(name in FLAT for name in names)
    rounds = [line["sampling_rounds"] for line in metrics(run)]
    assert sum(rounds) == len(run.engines.asked)


def test_a_round_draws_anew_where_it_asks_a_problem_of_the_step_again(tmp_path: Path) -> None:
    everything = {p.id for p in QUESTIONS}
    run = bandit(tmp_path, flat=everything - {"1"}, steps=1, problems_per_step=4)
    run.train(train)
    drawn = [(name, seed) for names, seed in run.engines.asked for name in set(names)]
    assert len({name for name, _ in drawn}) < len(drawn) == len(set(drawn))


def test_behind_the_bound_a_step_learns_from_what_it_has(tmp_path: Path) -> None:
    run = bandit(tmp_path, flat={p.id for p in QUESTIONS})
    run.train(train)
    assert run.learner.taught == []
    assert [len(names) for names, _ in run.engines.asked] == [3, 3, 3] * 4
    assert all(line["extra_problems"] == 6 and line["flat_share"] == 1 for line in metrics(run))


def test_a_resumed_run_asks_what_was_not_used_yet(tmp_path: Path) -> None:
    whole, half = bandit(tmp_path / "whole"), bandit(tmp_path / "half", steps=2)
    whole.train(train)
    half.train(train)
    half.problems.save(tmp_path / "problems.json")
    resumed = bandit(tmp_path / "resumed", first=2)
    resumed.problems.restore(tmp_path / "problems.json")
    resumed.train(train)
    assert half.engines.asked + resumed.engines.asked == whole.engines.asked


def test_groups_whose_answers_were_all_cut_off_are_asked_anew_where_these_are_not_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bandit(tmp_path, flat=set(), loss={"mask_overlong": True})
    answered = run.engines._group

    def cut_off(problem: Problem, request: Any) -> ScoredGroup:
        scored = answered(problem, request)
        if problem.id not in FLAT:
            return scored
        cut = tuple(replace(answer, finish_reason="length") for answer in scored.group.answers)
        return replace(scored, group=replace(scored.group, answers=cut))

    monkeypatch.setattr(run.engines, "_group", cut_off)
    run.train(train)
    assert [len(rows) for rows in run.learner.taught] == [3] * 4
    assert sum(line["extra_problems"] for line in metrics(run)) > 0
    for line in metrics(run):
        assert line["useful_groups"] == pytest.approx(1 - line["flat_share"])


def test_equal_rewards_that_an_own_advantage_learns_from_are_not_asked_anew(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def without_baseline(rewards, tokens):\n    return rewards\n", "utf-8")
    everything = {p.id for p in QUESTIONS}
    loss = {"advantage": f"{own}:without_baseline"}
    run = bandit(tmp_path / "run", flat=everything, loss=loss)
    run.train(train)
    assert [len(rows) for rows in run.learner.taught] == [3] * 4
    assert all(line["extra_problems"] == line["flat_share"] == 0 for line in metrics(run))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sample_buffer": {}}, "take the places of answers"),
        ({"loss": {"advantage": "reinforce_plus_plus"}}, "teach something, too"),
        (
            {"loss": {"advantage": "rloo", "kl": {"coef": 0.05, "place": "reward"}}},
            "no group would ever be flat",
        ),
        ({"loss": {"kind": "distill"}, "teacher": {"path": "some/teacher"}}, "whatever its reward"),
    ],
)
def test_other_uses_of_flat_groups_are_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        recipe(rollout={"dynamic_sampling": {}}, **changes)
