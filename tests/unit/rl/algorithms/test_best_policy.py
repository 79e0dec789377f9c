"""The best policy by the recipe's measure, and by no other."""

import math

from rl.algorithms.best_policy import BestPolicy
from rl.storage.checkpoints import Best


def test_only_a_higher_accuracy_is_better_and_none_that_is_no_number() -> None:
    best = BestPolicy("accuracy")
    found = [
        best.see_evaluation(step, {"accuracy": a})
        for step, a in enumerate([math.nan, 0.5, 0.5, 0.7, math.nan, 0.6])
    ]
    assert found == [False, True, False, True, False, False]
    assert best.best == Best(3, "accuracy", 0.7)
    assert not best.see_checkpoint(9)


def test_critical_entropy_is_the_mean_of_the_steps_since_the_checkpoint_before() -> None:
    best = BestPolicy("critical_entropy")
    for metrics in ({"critical_entropy": 1.0}, {"loss": 9.0}, {"critical_entropy": 2.0}):
        best.see_step(metrics)
    assert best.see_checkpoint(3)
    assert best.best == Best(3, "critical_entropy", 1.5)
    assert not best.see_checkpoint(4)  # without such a token nothing is known
    best.see_step({"critical_entropy": 1.4})
    assert not best.see_checkpoint(5)
    best.see_step({"critical_entropy": 1.6})
    assert best.see_checkpoint(6)
    assert not best.see_evaluation(6, {"accuracy": 1.0})


def test_a_resumed_run_knows_the_best_before_it_unless_the_measure_changed() -> None:
    before = Best(4, "accuracy", 0.8)
    assert not BestPolicy("accuracy", before).see_evaluation(5, {"accuracy": 0.7})
    assert BestPolicy("critical_entropy", before).best is None
    assert BestPolicy(None, before).best is None
