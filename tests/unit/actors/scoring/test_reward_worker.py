"""RewardWorker in this process: scores, counts, and works each thing out once."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from actors.scoring.reward_worker import RewardWorker
from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rl.data.records import Problem, Score
from tests.repository import ROOT

SAMPLES = ROOT / "tests/unit/rewards/reward_samples.py"
INTEGRAL = r"\int_0^1 e^{x^2}\sin(x^3) dx"


def completion(text: str) -> Completion:
    return Completion(text, num_tokens=10, max_tokens=100, finish_reason="stop")


def scores(
    worker: RewardWorker, gold: str, texts: Sequence[str], question: str = "p"
) -> list[Score]:
    problem = Problem(question, "what?", (gold,))
    return list(asyncio.run(worker.score(problem, [completion(text) for text in texts])))


@pytest.fixture
def make() -> Callable[[RewardConfig], RewardWorker]:
    made: list[RewardWorker] = []

    def one(config: RewardConfig) -> RewardWorker:
        made.append(RewardWorker(config))
        return made[-1]

    yield one
    for worker in made:
        worker.close()


def test_answers_come_back_in_order_with_weighted_rewards(
    make: Callable[[RewardConfig], RewardWorker],
) -> None:
    worker = make(RewardConfig(weights={"math": 0.8, "format": 0.2}))
    texts = [
        "<think>a</think>\\boxed{\\frac{1}{2}}",
        "\\boxed{0.5}",
        "<think>a</think>\\boxed{3}",
        "no",
    ]
    rewards = [score.reward for score in scores(worker, "1/2", texts)]
    assert rewards == pytest.approx([1.0, 0.8, 0.2, 0.0])
    stats = worker.stats()
    assert stats["verdicts/correct"] == 4 and stats["verdicts/no_answer"] == 1
    assert stats["verdicts/wrong"] == 3 and stats["queue_depth"] == 0


def test_equal_pairs_are_verified_once_whatever_the_thoughts(
    make: Callable[[RewardConfig], RewardWorker],
) -> None:
    worker = make(RewardConfig())
    texts = [f"<think>way {n}</think>\\boxed{{\\frac{{2}}{{4}}}}" for n in range(8)]
    assert all(score.reward == 1.0 for score in scores(worker, "1/2", texts))
    assert all(score.reward == 1.0 for score in scores(worker, "1/2", texts, question="other"))
    assert worker.stats()["verified"] == 1


def test_plain_integers_need_no_process(make: Callable[[RewardConfig], RewardWorker]) -> None:
    worker = make(RewardConfig(weights={"math": 1.0}))
    said = scores(worker, "8", ["\\boxed{8}", "\\boxed{9}", "\\boxed{-8}"])
    assert [score.reward for score in said] == [1.0, 0.0, 0.0]
    assert worker.stats()["verified"] == 0


def test_a_hung_answer_is_a_zero_and_hung_gold_is_none(
    make: Callable[[RewardConfig], RewardWorker],
) -> None:
    worker = make(RewardConfig(weights={"math": 1.0}, deadline_s=0.5))
    hung, right = scores(worker, "(1, 2)", [f"\\boxed{{({INTEGRAL}, 1)}}", "\\boxed{(1, 4/2)}"])
    assert (hung.reward, hung.verdicts["math"].cause) == (0.0, "timeout")
    assert right.reward == 1.0
    (first,) = scores(worker, INTEGRAL, ["\\boxed{x+7}"])
    kills = worker.stats()["kills"]
    (second,) = scores(worker, INTEGRAL, ["\\boxed{x+8}"])
    assert first.reward is None and second.reward is None
    assert worker.stats()["kills"] == kills == 2  # hung gold costs its deadline once


def test_many_groups_are_scored_at_a_time(make: Callable[[RewardConfig], RewardWorker]) -> None:
    worker = make(RewardConfig(weights={"math": 1.0}, processes=2))

    async def all_of_them() -> list[tuple[Score, ...]]:
        return await asyncio.gather(
            *(
                worker.score(
                    Problem(f"p{n}", "", (f"{n}+x",)),
                    [completion(f"\\boxed{{x+{n}}}"), completion(f"\\boxed{{x-{n}}}")],
                )
                for n in range(1, 41)
            )
        )

    rewards = [[score.reward for score in group] for group in asyncio.run(all_of_them())]
    assert rewards == [[1.0, 0.0]] * 40


def test_rewards_of_the_users_own_run_by_name(make: Callable[[RewardConfig], RewardWorker]) -> None:
    config = RewardConfig(
        weights={"math": 0.5, "short": 0.5, "broken": 0.0},
        custom={"short": f"{SAMPLES}:brevity", "broken": f"{SAMPLES}:raises"},
    )
    (score,) = scores(make(config), "8", ["\\boxed{8}"])
    assert score.reward == 1.0
    assert score.verdicts["broken"].cause == "crash"


def test_an_unknown_reward_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="no reward 'formt'; did you mean 'format'"):
        RewardWorker(RewardConfig(weights={"math": 1.0, "formt": 1.0}))
