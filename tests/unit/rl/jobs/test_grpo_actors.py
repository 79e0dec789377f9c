"""How a run's actors are started: each role's pool by its own part of the recipe."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.cluster.placement import Placement
from actors.cluster.plan import plan_of
from rl.jobs import generate, grpo_actors
from tests.unit.step_samples import recipe


def test_restarts_are_the_recipe_s_by_role(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pool(
        name: str, make: Any, size: int, restarts: int, health: Any = None, *, run: str
    ) -> Any:
        assert run == "trial"
        return SimpleNamespace(name=name, size=size, restarts=restarts, health=health)

    for module in (grpo_actors, generate):
        monkeypatch.setattr(module, "ActorPool", pool)
    asked = recipe(
        rollout={"workers": 3, "restarts": 1},
        reward={"weights": {"exact": 1.0}, "accuracy": "exact", "workers": 2, "restarts": 5},
        reference={"restarts": 7},
        loss={"kl": {"coef": 0.1}, "kind": "mixed"},
        teacher={"path": "some/larger", "restarts": 9},
    )
    plan = plan_of(asked, {})
    pools: Any = grpo_actors.start_pools(asked, tmp_path, plan, Placement(plan, "run", 1.0))
    started = (pools.engines, pools.rewards, pools.reference, pools.teacher.pool)
    assert [(each.name, each.size, each.restarts) for each in started] == [
        ("rollout", 3, 1),
        ("reward", 2, 5),
        ("reference", 1, 7),
        ("teacher", 1, 9),
    ]


@pytest.mark.parametrize(
    ("keep", "train", "embedded"),
    [
        ("disk", ["language"], True),
        ("disk", ["projector"], False),
        ("disk", ["projector", "language"], False),
        ("memory", ["language"], False),
        ("off", ["language"], False),
    ],
)
def test_engines_take_embeddings_where_all_that_makes_them_is_frozen_and_on_disk(
    keep: str, train: list[str], embedded: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(grpo_actors, "start_engines", lambda asked, *_: started.append(asked))
    monkeypatch.setattr(grpo_actors, "start_rewards", lambda *_: None)
    policy = {"path": "some/model", "train": train}
    asked = recipe(policy=policy, features={"keep": keep}, rollout={"engine_args": {"seed": 1}})
    plan = plan_of(asked, {})
    grpo_actors.start_pools(asked, tmp_path, plan, Placement(plan, "run", 1.0))
    own = started[0].rollout.engine_args
    assert own == {"seed": 1} | (
        {"enable_mm_embeds": True, "mm_processor_cache_gb": 0} if embedded else {}
    )


@pytest.mark.parametrize(
    ("shared", "order"),
    [(True, ["engines", "room", "learners", "engines"]), (False, ["learners", "engines"])],
)
def test_engines_measure_a_shared_gpu_before_learners_come(shared: bool, order: list[str]) -> None:
    called: list[str] = []
    learners: Any = SimpleNamespace(
        setup=lambda: called.append("learners"), kept_embeddings=lambda: None
    )
    rollouts: Any = SimpleNamespace(wait_ready=lambda: called.append("engines"))
    weights: Any = SimpleNamespace(make_room=lambda: called.append("room"))
    nobody: Any = None
    grpo_actors.RunningActors(learners, rollouts, weights, nobody, shared).start()
    assert called == order
