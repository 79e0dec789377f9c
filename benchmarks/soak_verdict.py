"""What a soak has lost, judged by the figures of its two runs."""

from collections.abc import Iterator, Mapping
from typing import Any

from scipy.stats import binomtest

LEAK_MB_PER_MINUTE = 20.0
"""A process that grows faster leaks: 29 GB in a day. In trials of three minutes caches that fill
and Ray's list of tasks took the driver and Ray's head 15 at most."""
LONG_MINUTES = 5.0
"""A process's life behind its warm-up that tells a leak from caches that fill."""


def losses(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each thing that went wrong; none: nothing was lost.

    Args:
        found: of the runs "soaked" and "undisturbed" `answers` scored, those `asked` (steps x
            problems x group size), `answers_twice`, `accuracy_after`, the held-out problems that it
            is of (`held_out`), and the lines of `memory`.
    """
    return [f"{name}: {told}" for name, run in found.items() for told in _lost(run)] + [
        f"soaked: {told}" for told in _worse(found["soaked"], found["undisturbed"])
    ]


def _lost(run: Mapping[str, Any]) -> Iterator[str]:
    if run["answers"] != run["asked"]:
        yield f"{run['answers']:,} answers were scored, and {run['asked']:,} asked for"
    if run["answers_twice"]:
        yield f"{run['answers_twice']:,} answers were scored more than once"
    for line in run["memory"]:
        if line["minutes"] >= LONG_MINUTES and line["mb_per_minute"] > LEAK_MB_PER_MINUTE:
            yield (
                f"{line['role']} ({line['pid']}) grew by {line['mb_per_minute']} MB a minute over "
                f"{line['minutes']} minutes; {LEAK_MB_PER_MINUTE:g} may be"
            )


def _worse(soaked: Mapping[str, Any], undisturbed: Mapping[str, Any]) -> Iterator[str]:
    now, without = soaked["accuracy_after"], undisturbed["accuracy_after"]
    problems = undisturbed["held_out"]
    if now is None or without is None or problems is None:
        yield (
            f"accuracy {now} cannot be held against {without} of {problems} problems; name their "
            "number in evaluation.problems, and see evaluations.jsonl"
        )
        return
    # Several answers to a problem count as one, which makes the interval no narrower than it is.
    least = binomtest(round(without * problems), problems).proportion_ci(method="wilson").low
    if now < least:
        yield (
            f"accuracy {now:.1%}, and {without:.1%} without faults, whose 95 % interval begins at "
            f"{least:.1%}"
        )
