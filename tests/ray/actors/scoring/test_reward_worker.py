"""RewardWorker as a Ray actor."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from actors.scoring.reward_worker import RewardWorker
from configs.schema.reward import JudgeConfig, RewardConfig
from rewards.completion import Completion
from rl.data.records import Problem
from tests.openai_server import openai_server
from tests.waiting import wait_until_busy

pytestmark = pytest.mark.ray
INTEGRAL = r"\int_0^1 e^{x^2}\sin(x^3) dx"


@pytest.fixture
def worker(cluster: None) -> Iterator[Any]:
    actor = ray.remote(RewardWorker).options(num_cpus=0, max_concurrency=64)
    handle = actor.remote(RewardConfig(weights={"math": 1.0}, deadline_s=3.0))
    yield handle
    ray.kill(handle)


def completions(*texts: str) -> list[Completion]:
    return [Completion(text, 2, 100, "stop") for text in texts]


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def pid_of(handle: Any) -> int:
    return ray.get(handle.__ray_call__.remote(lambda _: os.getpid()))


def test_groups_overtake_a_group_that_hangs(worker: Any) -> None:
    ray.get(worker.score.remote(Problem("warm", "", ("1+x",)), completions("\\boxed{x+1}")))
    slow = worker.score.remote(
        Problem("slow", "", ("(1, x)",)), completions(f"\\boxed{{({INTEGRAL}, 1)}}", "\\boxed{1}")
    )
    quick = [
        worker.score.remote(Problem(f"{n}", "", (f"{n}",)), completions(f"\\boxed{{{n}}}"))
        for n in range(20)
    ]
    assert all(score.reward == 1.0 for (score,) in ray.get(quick))
    assert ray.wait([slow], timeout=0)[0] == [], "the group that hangs was not waited for"
    hung, wrong = ray.get(slow)
    assert hung.verdicts["math"].cause == "timeout"
    assert wrong.verdicts["math"].cause == "wrong"
    stats = ray.get(worker.stats.remote())
    assert stats["kills"] == 1 and stats["queue_depth"] == 0


def test_no_verifier_outlives_a_killed_actor(worker: Any) -> None:
    ray.get(worker.score.remote(Problem("p", "", ("1+x",)), completions("\\boxed{x+1}")))
    pid = pid_of(worker)
    processes = family(pid)
    assert len(processes) >= 2
    worker.score.remote(Problem("q", "", ("(1, x)",)), completions(f"\\boxed{{({INTEGRAL}, 1)}}"))
    wait_until_busy(processes)  # with the integral
    os.kill(pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def test_a_verifier_killed_from_outside_costs_no_later_answer(worker: Any) -> None:
    ray.get(worker.score.remote(Problem("p", "", ("1+x",)), completions("\\boxed{x+1}")))
    before = family(pid_of(worker))
    leaves = [process for process in before if not process.children()]
    for process in leaves:
        if "forkserver" in " ".join(process.cmdline()):
            process.kill()
    scored = ray.get(
        [
            worker.score.remote(Problem(f"{n}", "", (f"{n}+x",)), completions(f"\\boxed{{x+{n}}}"))
            for n in range(2, 12)
        ],
        timeout=60,
    )
    assert sum(score.reward == 1.0 for (score,) in scored) >= 9


def test_a_judge_that_is_down_gives_no_score_and_is_asked_anew_when_it_is_back(
    cluster: None, tmp_path: Path
) -> None:
    problem, said = Problem("p", "Which city?", ("Paris",)), completions("\\boxed{Paris}")
    with openai_server(lambda _: '{"reason": "same", "agrees": true}') as server:
        server.failures = ["drop"] * 2
        kept = str(tmp_path / "judge.sqlite")
        judge = JudgeConfig(endpoint=server.url, model="m", attempts=2, cache=kept)
        actor = ray.remote(RewardWorker).options(num_cpus=0, max_concurrency=64)
        handle = actor.remote(RewardConfig(weights={"judge": 1.0}, accuracy="judge", judge=judge))
        (down,) = ray.get(handle.score.remote(problem, said))
        assert down.verdicts["judge"].cause == "crash"
        (back,) = ray.get(handle.score.remote(problem, said))
        assert back.verdicts["judge"].cause == "correct" and back.reward == 1.0
        ray.kill(handle)


def test_figures_reach_rays_metrics(worker: Any) -> None:
    ray.get(worker.score.remote(Problem("p", "", ("1",)), completions("\\boxed{1}")))
    made = ray.get(
        worker.__ray_call__.remote(
            lambda self: {metric.info["name"] for metric in self._metrics._made.values()}
        )
    )
    told = ("kills", "queue_depth", "restarts", "seconds", "verdicts")
    assert made == {f"r1v_reward_{name}" for name in told}
