"""How often the rewards give the verdict that an answer deserves, beside math-verify and TRL.

    python benchmarks/grading.py                        # the cases that come with the benchmark
    python benchmarks/grading.py more.jsonl --errors    # others, each wrong verdict shown

A case is a line of JSON: `reward` (math, choice or numeric), `kind`, `gold` (list of accepted
forms), `completion`, `fields` (further columns of the row), `right` (the verdict it deserves).
math-verify runs as its own example calls it; TRL's settings are those of its accuracy reward.
Neither reads choices by their options, nor knows a numeric tolerance.
"""

import argparse
import json
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rewards.math.comparison import extract_comparison
from rewards.math.equality import compare
from rewards.registry import INLINE
from rl.data.records import Problem, Verdict
from rl.data.thinking import split_thinking

CASES = Path(__file__).with_name("grading_cases.jsonl")
CONFIG = RewardConfig()
Case = dict[str, Any]
Way = Callable[[Case], bool]


@dataclass
class Tally:
    """Verdicts of one way on one kind of case."""

    cases: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    seconds: list[float] = field(default_factory=list[float])

    def add(self, said: bool, right: bool, took_s: float) -> None:
        """Count one verdict."""
        self.cases += 1
        self.false_positives += said and not right
        self.false_negatives += right and not said
        self.seconds.append(took_s)

    @property
    def share(self) -> float:
        """Share of verdicts as deserved."""
        return 1 - (self.false_positives + self.false_negatives) / max(self.cases, 1)


def ours(case: Case) -> Verdict:
    """The verdict of this project's rewards, in this process and without deadlines."""
    problem = Problem(str(case.get("id", "case")), "", tuple(case["gold"]), fields=case["fields"])
    completion = Completion(case["completion"], 10, 8192, "stop")
    if case["reward"] != "math":
        return INLINE[case["reward"]](CONFIG)(problem, completion)
    said = extract_comparison(problem, completion, CONFIG.math, CONFIG.thinking)
    return said if isinstance(said, Verdict) else compare(said, CONFIG.math, lambda _: None)


def math_verify(case: Case) -> bool:
    """math-verify's defaults: LaTeX or expressions on both sides."""
    from math_verify import parse, verify

    tail = split_thinking(case["completion"], CONFIG.thinking).final
    answer = parse(tail or "", parsing_timeout=None)
    golds = [parse(f"${gold}$", parsing_timeout=None) for gold in case["gold"]]
    return any(bool(verify(gold, answer, timeout_seconds=None)) for gold in golds)


def trl(case: Case) -> bool:
    """The extraction settings of TRL's accuracy reward."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    tail = split_thinking(case["completion"], CONFIG.thinking).final
    extraction = LatexExtractionConfig(
        boxed_match_priority=0,
        try_extract_without_anchor=False,
        normalization_config=NormalizationConfig(units=True),
    )
    answer = parse(tail or "", extraction_config=[extraction], parsing_timeout=None)
    golds = [parse(f"${gold}$", parsing_timeout=None) for gold in case["gold"]]
    return any(bool(verify(gold, answer, timeout_seconds=None)) for gold in golds)


def tally(cases: Sequence[Case], way: Way) -> dict[str, Tally]:
    """The way's verdicts by reward, and by reward and kind."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for case in cases:
        began = time.perf_counter()
        try:
            said = way(case)
        except Exception:  # whatever a library raises on a text is no verdict of "right"
            said = False
        took_s = time.perf_counter() - began
        for name in (case["reward"], f"{case['reward']}: {case['kind']}"):
            tallies[name].add(said, case["right"], took_s)
    return tallies


def show(by_way: dict[str, dict[str, Tally]], title: str, console: Console) -> None:
    """Shares of right verdicts by kind, with the false positives and negatives of each way."""
    table = Table("", "cases", *by_way, title=title)
    first = next(iter(by_way.values()))
    for name in sorted(first):
        cells = [
            f"{tallies[name].share:.1%}  +{tallies[name].false_positives} "
            f"-{tallies[name].false_negatives}"
            for tallies in by_way.values()
        ]
        table.add_row(name, str(first[name].cases), *cells)
    console.print(table)
    console.print("+ wrong answers taken as right, - right answers refused")
    for way, tallies in by_way.items():
        times = sorted(tallies["math"].seconds)
        if times:
            console.print(
                f"{way}: {len(times) / sum(times):,.0f} math verdicts a second, "
                f"p50 {1e3 * times[len(times) // 2]:.2f} ms, "
                f"p99 {1e3 * times[int(0.99 * len(times))]:.1f} ms"
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("cases", type=Path, nargs="*", default=[CASES], help="JSONL files")
    options.add_argument("--errors", action="store_true", help="show each wrong verdict of ours")
    chosen = options.parse_args()
    logging.disable(logging.WARNING)
    console = Console()
    __import__("rewards.verifier.preload")  # as in a verifier process: warm before the first case
    for path in chosen.cases:
        cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        ways: dict[str, Way] = {
            "ours": lambda case: ours(case).cause == "correct",
            "math-verify": math_verify,
            "TRL's settings": trl,
        }
        show({name: tally(cases, way) for name, way in ways.items()}, path.name, console)
        if chosen.errors:
            for case in cases:
                verdict = ours(case)
                if (verdict.cause == "correct") != case["right"]:
                    console.print(case["id"], case["gold"], case["answer"], verdict, markup=False)


if __name__ == "__main__":
    main()
