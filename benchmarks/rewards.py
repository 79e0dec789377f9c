"""Verifications a second: the reward worker, math-verify alone, and TRL's accuracy reward.

    python benchmarks/rewards.py --out rewards.json

All take the same answers, in turns, so that whatever else the machine does hits each alike. Then
the same answers again with 2 % hostile ones among them.
"""

import argparse
import asyncio
import importlib.util
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from actors.scoring.reward_worker import RewardWorker
from benchmarks.reward_rows import honest_groups, hostile_answers
from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rl.data.records import Problem, Score

GROUP = 8
WARM_UP_GROUPS = 56
HOSTILE_EVERY = 50
Groups = Sequence[tuple[str, list[str]]]


def direct(groups: Groups) -> None:
    """math-verify with its own defaults, its SIGALRM timeouts included."""
    from math_verify import parse, verify

    for gold, texts in groups:
        for text in texts:
            verify(parse(f"${gold}$"), parse(text))


def trl(groups: Groups) -> None:
    """TRL's accuracy reward, a group a call."""
    from trl.rewards import accuracy_reward

    for gold, texts in groups:
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        accuracy_reward(completions, [f"${gold}$"] * len(texts))


def timed(way: str, groups: Groups) -> float:
    """Seconds that one way takes over `groups`; runs in a process of its own."""
    logging.disable(logging.WARNING)
    run = {"direct": direct, "trl": trl}[way]
    began = time.perf_counter()
    run(groups)
    return time.perf_counter() - began


async def score_all(
    worker: RewardWorker, groups: Groups, at_a_time: int
) -> tuple[float, list[Score]]:
    """Seconds for all groups with `at_a_time` of them under way, and every answer's score."""
    gate = asyncio.Semaphore(at_a_time)

    async def one(name: str, gold: str, texts: list[str]) -> tuple[Score, ...]:
        completions = [Completion(text, 1, 8192, "stop") for text in texts]
        async with gate:
            return await worker.score(Problem(name, "", (gold,)), completions)

    began = time.perf_counter()
    works = [one(f"p{index}", gold, texts) for index, (gold, texts) in enumerate(groups)]
    scored = await asyncio.gather(*works)
    return time.perf_counter() - began, [score for group in scored for score in group]


def fresh(config: RewardConfig, warm_up: Groups) -> RewardWorker:
    """A warm worker that remembers no verdict of what it will be asked."""
    worker = RewardWorker(config)
    asyncio.run(score_all(worker, warm_up, 64))
    worker._verifiers.stats.turnaround_s.clear()
    worker._verifiers.stats.service_s.clear()
    return worker


def percentile_ms(values_s: Sequence[float], share: float) -> float:
    """The time in ms that `share` of the times, given in s, do not pass."""
    ordered = sorted(values_s)
    return 1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def side_by_side(
    groups: Groups, warm_up: Groups, config: RewardConfig, rounds: int
) -> dict[str, Any]:
    """Answers a second of each way, over the same groups, in turns."""
    ways = ["direct", *(["trl"] if importlib.util.find_spec("trl") else [])]
    spawn = multiprocessing.get_context("spawn")
    processes = {way: ProcessPoolExecutor(max_workers=1, mp_context=spawn) for way in ways}
    for way, process in processes.items():
        process.submit(timed, way, warm_up).result()
    worker = fresh(config, warm_up)
    took = dict.fromkeys(("ours", *ways), 0.0)
    for turn in range(rounds):
        part = groups[turn::rounds]
        for way, process in processes.items():
            took[way] += process.submit(timed, way, part).result()
        took["ours"] += asyncio.run(score_all(worker, part, 64))[0]
    for process in processes.values():
        process.shutdown()
    stats = worker._verifiers.stats
    worker.close()
    answers = sum(len(texts) for _, texts in groups)
    return {
        "answers": answers,
        **{f"{way}_per_s": answers / seconds for way, seconds in took.items()},
        "ratio_vs_direct": took["direct"] / took["ours"],
        "ratio_vs_trl": took["trl"] / took["ours"] if "trl" in took else None,
        "verify_p50_ms": percentile_ms(stats.service_s, 0.5),
        "verify_p99_ms": percentile_ms(stats.service_s, 0.99),
        "verify_max_ms": percentile_ms(stats.service_s, 1.0),
    }


def latency(groups: Groups, warm_up: Groups, config: RewardConfig) -> dict[str, float]:
    """From hand-over to verdict, with as many answers under way as there are processes."""
    worker = fresh(config, warm_up)
    singles = [(gold, [text]) for gold, texts in groups for text in texts]
    asyncio.run(score_all(worker, singles, config.processes))
    waits_s = list(worker._verifiers.stats.turnaround_s)
    worker.close()
    return {"p50_ms": percentile_ms(waits_s, 0.5), "p99_ms": percentile_ms(waits_s, 0.99)}


def hostile(groups: Groups, warm_up: Groups, config: RewardConfig) -> dict[str, Any]:
    """The same answers with and without hostile ones in place of 2 % of them."""
    replaced = hostile_answers(sum(len(texts) for _, texts in groups) // HOSTILE_EVERY, seed=7)
    mixed = [(gold, list(texts)) for gold, texts in groups]
    places = [(texts, index) for _, texts in mixed for index in range(len(texts))]
    bad = range(HOSTILE_EVERY // 2, len(places), HOSTILE_EVERY)[: len(replaced)]
    for place, text in zip(bad, replaced, strict=False):
        texts, index = places[place]
        texts[index] = text
    clean_worker, mixed_worker = fresh(config, warm_up), fresh(config, warm_up)
    clean_s, clean = asyncio.run(score_all(clean_worker, groups, 64))
    mixed_s, scored = asyncio.run(score_all(mixed_worker, mixed, 64))
    stats = mixed_worker._verifiers.stats
    clean_worker.close()
    mixed_worker.close()
    changed = sum(
        one.verdicts["math"].cause != other.verdicts["math"].cause
        for index, (one, other) in enumerate(zip(clean, scored, strict=True))
        if index not in bad
    )
    causes = [scored[index].verdicts["math"].cause for index in bad]
    return {
        "rows": len(bad),
        "deadline_s": config.deadline_s,
        "deadline_overrun": stats.worst_overrun,
        "changed_verdicts": changed,
        "throughput_ratio": clean_s / mixed_s,
        "kills": stats.kills,
        "causes": {cause: causes.count(cause) for cause in sorted(set(causes))},
    }


def show(result: dict[str, Any], console: Console) -> None:
    """The figures as a table."""
    table = Table("", "figure", title="Rewards: verifications on this machine")
    for name, value in result.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for inner, figure in parts:
            shown = f"{figure:.3g}" if isinstance(figure, float) else str(figure)
            table.add_row(f"{name}.{inner}" if inner else name, shown)
    console.print(table)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options.add_argument("--groups", type=int, default=294, help="problems, of 8 answers each")
    options.add_argument("--rounds", type=int, default=4, help="turns in which the ways alternate")
    options.add_argument("--processes", type=int, default=2, help="verifier processes")
    chosen = options.parse_args()
    console = Console()
    if importlib.util.find_spec("trl") is None:
        console.print("trl is not installed, so its column is left out: run make setup")
    config = RewardConfig(weights={"math": 1.0}, processes=chosen.processes)
    drawn = honest_groups(chosen.groups + WARM_UP_GROUPS, GROUP, seed=1)
    warm_up, groups = drawn[:WARM_UP_GROUPS], drawn[WARM_UP_GROUPS:]
    result: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "processes": chosen.processes}
    with console.status("side by side"):
        result |= side_by_side(groups, warm_up, config, chosen.rounds)
    with console.status("latency"):
        result |= latency(groups, warm_up, config)
    with console.status("hostile answers"):
        result["hostile"] = hostile(groups, warm_up, config)
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result, console)


if __name__ == "__main__":
    main()
