"""Figures of a step and of a run: rewards, lengths, verdicts, lags, seconds, refused updates."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from configs.schema.reward import RewardConfig, ThinkingConfig
from rl.algorithms.guards import (
    NOTHING_LEARNED,
    DivergedError,
    FlatRewardsWarner,
    GapGuard,
    GapOverBound,
    NonFiniteGuard,
)
from rl.data.records import Answer, Group, Problem, Score, ScoredGroup, UpdateReport, Verdict
from rl.data.thinking import has_thoughts
from rl.run_log.answer_metrics import (
    accuracy,
    answer_metrics,
    image_metrics,
    source_metrics,
    staleness_metrics,
)
from rl.run_log.summary import summarise
from rl.run_log.timing import BusyTime, StepTimer
from tests.unit.step_samples import answer, score, scored, shares

CONFIG = RewardConfig(weights={"exact": 0.9, "format": 0.1}, accuracy="exact")
REFUSED = UpdateReport({"loss": math.nan}, {}, skips=(True,))
DONE = UpdateReport({"loss": 0.1}, {}, skips=(False,))


@pytest.mark.parametrize(
    ("text", "prompt_opens", "expected"),
    [
        ("<think>3+5=8</think>8", False, True),
        ("<think></think>8", False, False),
        ("<think> \n</think>8", False, False),
        ("<think>3+5=8", False, False),
        ("3+5=8</think>8", False, False),
        ("</think><think>late", False, False),
        ("8", False, False),
        ("3+5=8</think>8", True, True),
        (" </think>8", True, False),
        ("<think></think>8", True, False),
        ("<think>3+5=8</think>8", True, True),
        ("<think><think></think>8", False, False),
        ("3+5=8", True, False),
    ],
)
def test_an_answer_thinks_when_something_stands_between_the_tags(
    text: str, prompt_opens: bool, expected: bool
) -> None:
    assert has_thoughts(text, ThinkingConfig(prompt_opens=prompt_opens)) is expected


def test_images_that_engines_read_as_embeddings_are_a_share_of_those_that_could_be() -> None:
    def shown(images: int, embedded: int | None) -> ScoredGroup:
        one = scored([1.0])
        seen = replace(one.group.problem, images=(b"",) * images)
        return replace(one, group=replace(one.group, problem=seen, embedded_images=embedded))

    assert image_metrics([shown(3, 3), shown(2, 0), shown(0, 0)]) == {"embedded_images": 0.6}
    assert image_metrics([shown(3, None)]) == image_metrics([shown(0, 0)]) == {}


def test_a_mix_has_figures_of_each_source_and_one_source_has_none() -> None:
    groups = [scored([1.0, 0.0]), scored([1.0, 1.0]), scored([0.0, None])]
    config = RewardConfig(weights={"exact": 1.0}, accuracy="exact")
    assert source_metrics(groups, config) == {}
    named = [
        replace(g, group=replace(g.group, problem=replace(g.group.problem, source=source)))
        for g, source in zip(groups, ("sums", "names", "sums"), strict=True)
    ]
    figures = source_metrics(named, config)
    assert (figures["problems/sums"], figures["problems/names"]) == (2, 1)
    assert (figures["reward/sums"], figures["accuracy/sums"]) == pytest.approx((1 / 3, 1 / 3))
    assert figures["accuracy/names"] == 1.0 and figures["mean_length/names"] == 1.5


def test_a_step_s_figures_by_hand() -> None:
    def verdicts(exact: Verdict, keeps_format: float) -> dict[str, Verdict]:
        return {"exact": exact, "format": Verdict(keeps_format, "correct")}

    answers = (
        Answer((1,) * 4, (-1.0,) * 4, "<think>x</think>2", "stop", 3),
        Answer((1,) * 8, (-1.0,) * 8, "<think>x", "length", 2),
    )
    first = ScoredGroup(
        Group(Problem("a", "?", ("2",)), (1,), answers),
        (
            Score(verdicts(Verdict(1.0, "correct"), 1.0), 1.0),
            Score(verdicts(Verdict(0.0, "no_answer"), 0.0), 0.0),
        ),
    )
    second = ScoredGroup(
        Group(Problem("b", "?", ("2",)), (1,), answers),
        (
            Score(verdicts(Verdict(0.0, "wrong"), 1.0), 0.1),
            Score(verdicts(Verdict(0.0, "timeout", gold_side=True), 1.0), None),
        ),
    )
    rewards = [1.0, 0.0, 0.1]
    mean = 1.1 / 3
    assert answer_metrics([first, second], CONFIG) == pytest.approx(
        {
            "reward": mean,
            "reward_std": math.sqrt(sum((r - mean) ** 2 for r in rewards) / 3),
            "accuracy": 1 / 3,
            "score/exact": 1 / 3,
            "score/format": 0.75,
            "think_share": 0.5,
            "mean_length": 6.0,
            "max_length": 8.0,
            "truncated_share": 0.5,
            "unscored_share": 0.25,
            **shares(correct=0.25, no_answer=0.25, wrong=0.25, timeout=0.25),
        }
    )
    assert staleness_metrics([first, second], version=3) == pytest.approx(
        {"staleness": 0.5, "max_staleness": 1.0, "token_staleness": 8 / 12}
    )


def test_an_answer_that_several_policies_wrote_is_as_old_as_its_oldest_token() -> None:
    # Three tokens of version 4, two of 5, one of 7.
    answer = Answer((1,) * 6, (-1.0,) * 6, "", "stop", 4, later=((5, 3), (7, 5)))
    assert answer.token_versions == pytest.approx((3 * 4 + 2 * 5 + 7) / 6)
    group = scored([1.0, 0.0], answers=[answer, Answer((1, 1), (-1.0,) * 2, "", "stop", 7)])
    assert group.group.oldest_version == 4
    assert staleness_metrics([group], version=7) == pytest.approx(
        {"staleness": 1.5, "max_staleness": 3.0, "token_staleness": (3 * 3 + 2 * 2) / 8}
    )


def test_a_model_that_ran_out_of_time_counts_and_a_crash_does_not() -> None:
    slow = Score({"exact": Verdict(0.0, "timeout")}, 0.0)
    assert accuracy([score(1.0), slow, score(None), score(None, "bad_gold")], CONFIG) == 0.5


def test_without_a_single_score_rewards_are_nan_and_the_rest_is_told() -> None:
    config = RewardConfig(weights={"exact": 1.0}, accuracy="exact")
    figures = answer_metrics([scored([None, None])], config)
    assert all(math.isnan(figures[name]) for name in ("reward", "reward_std", "score/exact"))
    assert (figures["unscored_share"], figures["verdicts/crash"]) == (1.0, 1.0)
    assert figures["mean_length"] == 1.5


def test_refused_updates_end_the_run_only_in_a_row() -> None:
    guard = NonFiniteGuard(2)
    for step, report in enumerate((REFUSED, DONE, REFUSED, DONE)):
        guard.check(report, step)
    guard.check(REFUSED, 4)
    with pytest.raises(DivergedError, match=r"step 5: .* 2 updates in a row .*in_a_row=2"):
        guard.check(REFUSED, 5)


def test_refused_updates_are_counted_one_by_one_in_the_order_of_a_step() -> None:
    step = UpdateReport({"loss": math.nan}, {}, skips=(True, False, True, True))
    guard = NonFiniteGuard(3)
    guard.check(step, 0)
    with pytest.raises(DivergedError, match=r"step 1: .* 3 updates in a row"):
        guard.check(step, 1)


def test_steps_whose_rewards_teach_nothing_are_warned_of_after_3_6_12_in_a_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warner = FlatRewardsWarner()
    rewards = [[0.0, 0.0]] * 7 + [[1.0, 0.0]] + [[1.0, 1.0]] * 3
    for step, each in enumerate(rewards):
        warner.check([scored(each), scored([0.0, 0.0])], len(set(each)) > 1, step)
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(",")[0] for text in told] == [
        "step 2: no group's rewards differ in 3 steps running (all are 0.0)",
        "step 5: no group's rewards differ in 6 steps running (all are 0.0)",
        "step 10: no group's rewards differ in 3 steps running (equal within each group)",
    ]


def test_a_step_with_nothing_to_learn_is_no_update_and_breaks_no_row() -> None:
    guard = NonFiniteGuard(2)
    for step, report in enumerate((NOTHING_LEARNED, NOTHING_LEARNED, REFUSED, NOTHING_LEARNED)):
        guard.check(report, step)
    with pytest.raises(DivergedError):
        guard.check(REFUSED, 4)


def test_a_single_refused_update_can_be_too_many() -> None:
    with pytest.raises(DivergedError):
        NonFiniteGuard(1).check(REFUSED, 0)


def test_phases_add_up_and_tokens_are_counted_by_the_engines_second() -> None:
    watch = StepTimer()
    for _ in range(2):
        with watch.time("rollout"):
            time.sleep(0.01)
    with pytest.raises(KeyError), watch.time("update"):
        raise KeyError("a phase that fails is timed too")
    figures = watch.metrics([scored([1.0, 0.0], answers=[answer(5), answer(7)])], 1.5)
    assert figures["rollout_tokens"] == 12
    assert 0.02 <= figures["seconds_rollout"] <= figures["seconds"]
    assert figures["seconds_rollout"] + figures["seconds_update"] <= figures["seconds"]
    assert figures["rollout_tokens_per_s"] == pytest.approx(8)


def test_work_under_way_at_the_same_time_shares_it_and_all_shares_add_up() -> None:
    clock = [5.0]
    shared = BusyTime(lambda: clock[0])
    clock[0] = 9.0  # nothing under way: nobody's
    with shared.share() as first:
        clock[0] = 10.0
        with shared.share() as second:
            clock[0] = 14.0
            assert (first(), second()) == (3.0, 2.0)
        clock[0] = 15.0
        assert first() == 4.0
    clock[0] = 20.0
    with shared.share() as third:
        clock[0] = 20.5
        assert third() == 0.5


def test_a_run_is_summed_up_from_its_log(tmp_path: Path) -> None:
    steps = [
        {
            "seconds": 2.0,
            "rollout_tokens_per_s": 10.0,
            "logprob_gap": 1e-6,
            "skipped": 0.0,
            "useful_groups": 0.5,
        },
        {
            "seconds": 3.0,
            "rollout_tokens_per_s": 90.0,
            "logprob_gap": 3e-6,
            "skipped": 1.0,
            "useful_groups": 1.0,
        },
        # Nothing was learned, or the gap was not finite.
        {"seconds": 4.0, "rollout_tokens_per_s": 20.0, "logprob_gap": None},
    ]
    steps = [step | {"useful_groups": u} for step, u in zip(steps, (0.5, 1.0, 0.0), strict=True)]
    held_out = [
        {"accuracy": a, "greedy_accuracy": a + 0.1, "mean_length": 10 * a, "think_share": a / 2}
        for a in (0.2, 0.9, 0.6)
    ]
    for name, lines in (("metrics", steps), ("evaluations", held_out)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert summarise(tmp_path) == pytest.approx(
        {
            "steps": 3,
            "grpo_seconds": 9.0,
            "rollout_tokens_per_s": 20.0,
            "max_logprob_gap": 3e-6,
            "skipped_updates": 1.0,
            "flat_steps": 1,
            "accuracy_before": 0.2,
            "accuracy_after": 0.6,
            "greedy_accuracy_before": 0.3,
            "greedy_accuracy_after": 0.7,
            "mean_length_before": 2.0,
            "mean_length_after": 6.0,
            "think_share_before": 0.1,
            "think_share_after": 0.3,
        }
    )
    (tmp_path / "evaluations.jsonl").unlink()
    assert set(summarise(tmp_path)) == {
        "steps",
        "grpo_seconds",
        "rollout_tokens_per_s",
        "max_logprob_gap",
        "skipped_updates",
        "flat_steps",
    }


def test_a_run_ends_when_engines_and_learner_part_in_three_steps_running() -> None:
    guard = GapGuard(0.1)

    def step(gap: float) -> None:
        guard.check(UpdateReport(metrics={"logprob_gap": gap}, answers={}, skips=(False,)), 7)

    for gap in (0.2, 0.3, 0.05, 0.2, 0.2):
        step(gap)
    guard.check(NOTHING_LEARNED, 6)  # says nothing of the gap
    with pytest.raises(GapOverBound, match=r"step 7: .* 0\.15 nats apart .*max_logprob_gap=0\.1"):
        step(0.15)
