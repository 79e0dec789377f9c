"""A soak fails by what it lost, and says so."""

from typing import Any

import pytest

from benchmarks.soak_verdict import losses


def line(minutes: float, slope: float) -> dict[str, Any]:
    return {"role": "RewardWorker", "pid": 7, "minutes": minutes, "mb_per_minute": slope}


def soak(**changes: Any) -> dict[str, dict[str, Any]]:
    """Two runs alike that lost nothing, then `changes` to the one with faults."""
    run = {
        "answers": 19_200,
        "asked": 19_200,
        "answers_twice": 0,
        "accuracy_after": 0.96,
        "held_out": 200,
        "memory": [line(9.0, 0.9), line(1.2, 80.0)],
    }
    return {"undisturbed": run, "soaked": run | changes}


def test_a_soak_that_lost_nothing_passes() -> None:
    assert losses(soak()) == []
    assert losses(soak(accuracy_after=0.93)) == [], "within the interval"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answers": 19_199}, "soaked: 19,199 answers were scored, and 19,200 asked for"),
        ({"answers": 19_201}, "soaked: 19,201 answers were scored, and 19,200 asked for"),
        ({"answers_twice": 1}, "soaked: 1 answers were scored more than once"),
        (
            {"memory": [line(9.0, 20.5)]},
            "soaked: RewardWorker (7) grew by 20.5 MB a minute over 9.0 minutes; 20 may be",
        ),
        (
            {"accuracy_after": 0.9},
            "soaked: accuracy 90.0%, and 96.0% without faults, whose 95 % interval begins at 92.3%",
        ),
    ],
)
def test_each_thing_lost_is_told(change: dict[str, Any], told: str) -> None:
    assert losses(soak(**change)) == [told]


@pytest.mark.parametrize("unknown", ["accuracy_after", "held_out"])
def test_an_accuracy_that_cannot_be_judged_is_no_success(unknown: str) -> None:
    found = soak()
    found["undisturbed"] = found["undisturbed"] | {unknown: None}
    (told,) = losses(found)
    assert "cannot be held against" in told


def test_all_losses_are_told_at_once_and_those_of_the_run_without_faults_too() -> None:
    found = soak(answers=1, answers_twice=2, accuracy_after=0.1)
    found["undisturbed"] = found["undisturbed"] | {"answers_twice": 3}
    assert [told.partition(":")[0] for told in losses(found)] == ["undisturbed", *["soaked"] * 3]
