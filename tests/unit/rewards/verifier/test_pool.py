"""The pool of verifier processes: nothing hangs it, and one bad task costs nobody else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import wait

import psutil
import pytest

from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rewards.functions.custom import CustomTask
from rewards.math.comparison import MathComparison
from rewards.verifier.pool import VerifierPool
from rl.data.records import Problem
from tests.repository import ROOT
from tests.waiting import wait_until

SAMPLES = ROOT / "tests/unit/rewards/reward_samples.py"
DEADLINE_S = 1.0
INTEGRAL = r"\int_0^1 e^{x^2}\sin(x^3) dx"
"""sympy works on this for minutes."""


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    verifiers = VerifierPool(RewardConfig(processes=2, deadline_s=DEADLINE_S, memory_mib=512))
    verifiers.submit(MathComparison("1+1", ("2",))).result()
    yield verifiers
    verifiers.close()


def sample(name: str) -> CustomTask:
    problem = Problem("row 7", "what?", ("2",))
    return CustomTask(f"{SAMPLES}:{name}", problem, Completion("text", 5, 100, "stop"))


@pytest.mark.parametrize("name", ["loops_in_c", "sleeps"])
def test_a_hung_task_is_killed_at_its_deadline(pool: VerifierPool, name: str) -> None:
    began = time.monotonic()
    verdict = pool.submit(sample(name)).result(timeout=30)
    took_s = time.monotonic() - began
    assert verdict.cause == "timeout" and not verdict.gold_side
    assert DEADLINE_S <= took_s <= 3 * DEADLINE_S  # room for a busy machine; benchmarks measure it


def test_a_reward_that_switches_the_timer_off_is_killed_all_the_same(pool: VerifierPool) -> None:
    verdict = pool.submit(sample("switches_the_timer_off")).result(timeout=30)
    assert verdict.cause == "timeout"


def test_neighbours_of_a_hung_answer_get_their_verdicts(pool: VerifierPool) -> None:
    claims = [MathComparison(f"{n}+0", (str(n),)) for n in range(40)]
    claims[20] = MathComparison(f"({INTEGRAL}, 1)", ("(1, 2)",))
    causes = [pool.submit(claim).result(timeout=30).cause for claim in claims]
    assert causes.pop(20) == "timeout"
    assert causes == ["correct"] * 39


def test_gold_that_hangs_is_the_gold_sides_fault(pool: VerifierPool) -> None:
    verdict = pool.submit(MathComparison("x+1", (INTEGRAL,))).result(timeout=30)
    assert verdict.cause == "timeout" and verdict.gold_side
    assert not verdict.counts


def test_what_a_reward_does_wrong_is_a_crash_with_the_reason(pool: VerifierPool) -> None:
    said = {
        name: pool.submit(sample(name)).result(timeout=30)
        for name in ("raises", "returns_text", "leaves")
    }
    assert {verdict.cause for verdict in said.values()} == {"crash"}
    assert "no such column" in said["raises"].detail and "row 7" in said["raises"].detail
    assert "2.0" in said["returns_text"].detail
    assert "died" in said["leaves"].detail


def test_memory_is_bounded(pool: VerifierPool) -> None:
    assert "512 MiB" in pool.submit(sample("hoards")).result(timeout=30).detail


def test_sync_and_async_rewards_run(pool: VerifierPool) -> None:
    assert pool.submit(sample("brevity")).result(timeout=30).score == 1.0
    assert pool.submit(sample("patient")).result(timeout=30).detail == "waited"


def test_verifier_processes_import_nothing_heavy_nor_the_main_module(pool: VerifierPool) -> None:
    assert pool.submit(sample("heavy_modules")).result(timeout=30).detail == ""


def test_processes_are_kept_from_task_to_task(pool: VerifierPool) -> None:
    seen = {pool.submit(sample("process")).result(timeout=30).detail for _ in range(20)}
    assert len(seen) <= 2


def test_closing_leaves_no_task_without_a_verdict() -> None:
    verifiers = VerifierPool(RewardConfig(deadline_s=30.0))
    tasks = [verifiers.submit(sample("sleeps")) for _ in range(5)]
    verifiers.close()
    done, still = wait(tasks, timeout=10)
    assert not still
    assert {future.result().cause for future in done} == {"crash"}


def test_no_process_outlives_a_killed_owner() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rewards.functions.custom import CustomTask
from rewards.verifier.pool import VerifierPool
from rl.data.records import Problem
pool = VerifierPool(RewardConfig(processes=2, deadline_s=60.0))
task = CustomTask({f"{SAMPLES}:process"!r}, Problem("p", "", ("1",)), Completion("", 1, 1, "stop"))
pool.submit(task).result()
hung = CustomTask({f"{SAMPLES}:sleeps"!r}, Problem("p", "", ("1",)), Completion("", 1, 1, "stop"))
pool.submit(hung)
print("ready", flush=True)
pool.submit(hung).result()
"""
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert owner.stdout is not None and owner.stdout.readline() == b"ready\n"
    of_owner = psutil.Process(owner.pid)
    wait_until(lambda: len(of_owner.children(recursive=True)) >= 3, 60.0)  # server, two verifiers
    family = of_owner.children(recursive=True)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
