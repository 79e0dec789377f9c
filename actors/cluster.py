"""Starting a run's actors on a Ray cluster, and ending them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.learner import Learner, LearnerJob
from actors.learners import LearnerGroup, ProblemRefs
from actors.pool import ActorPool, DriverLoop
from actors.reference import ReferencePolicy
from actors.reward import RewardWorker
from actors.rollout import RolloutWorker
from actors.rollouts import RolloutPools, Rollouts
from configs.schema import GRPORecipe
from rl.plan import Device, DoesNotFit, check_fits, device_of, planned_actors, transport_of

_ROOT = Path(__file__).resolve().parents[1]
_CALLS_AT_A_TIME = 1024


@contextmanager
def ray_session() -> Iterator[None]:
    """Ray for the time of a run: the cluster that RAY_ADDRESS names (`ray job submit` sets it), or
    one on this machine that ends with the run, without the dashboard, which takes a small machine's
    cores for a minute (`ray start --head` brings one)."""
    address = os.environ.get("RAY_ADDRESS", "local")
    local = address == "local"
    environment = {"env_vars": {"PYTHONPATH": str(_ROOT)}} if local else None
    ray.init(
        address=address,
        log_to_driver=False,
        runtime_env=environment,
        include_dashboard=False if local else None,
    )
    try:
        yield
    finally:
        ray.shutdown()


def check_cluster(recipe: GRPORecipe) -> Device:
    """The device that the run will use. Raises before anything is started when it does not fit."""
    resources = ray.cluster_resources()
    device = device_of(recipe, resources)
    transport_of(recipe, device)
    check_fits(planned_actors(recipe, device), resources, recipe)
    return device


class Seats:
    """Where learner ranks and engines sit: anywhere, or rank i beside engine i on one GPU."""

    def __init__(self, recipe: GRPORecipe, device: Device) -> None:
        """Reserves the GPUs at once where they are shared, so that nobody waits for half a pair."""
        self._group: PlacementGroup | None = None
        if device == "cuda" and recipe.sync.shared_gpu:
            pair = {"GPU": 1.0, "CPU": 2.0}
            self._group = placement_group([dict(pair) for _ in range(recipe.learner.ranks)])
            if not self._group.wait(timeout_seconds=120):
                raise DoesNotFit(
                    f"{recipe.learner.ranks} GPUs with 2 cores each could not be reserved in 120 "
                    "seconds; is another job on the cluster? `ray status` shows who holds them"
                )

    def seat(self, slot: int) -> dict[str, Any]:
        """Ray's options for the actor of a slot."""
        if self._group is None:
            return {}
        return {"scheduling_strategy": PlacementGroupSchedulingStrategy(self._group, slot)}

    def release(self) -> None:
        """Give reserved GPUs back."""
        if self._group is not None:
            remove_placement_group(self._group)


def start_learners(
    recipe: GRPORecipe,
    folder: Path,
    device: Device,
    loop: DriverLoop,
    *,
    refs: ProblemRefs,
    seats: Seats,
) -> LearnerGroup:
    """Learner ranks on the policy in `folder`; they meet in `setup`."""
    job = LearnerJob(
        folder=folder,
        policy=recipe.policy,
        prompt=recipe.prompt,
        loss=recipe.loss,
        learner=recipe.learner,
        temperature=recipe.rollout.temperature,
        total_steps=recipe.steps,
        device=device,
    )
    ranks = recipe.learner.ranks
    make = ray.remote(**_options(recipe, device, "learner", share=ranks))(Learner)
    return LearnerGroup(
        [make.options(**seats.seat(rank)).remote(job, rank) for rank in range(ranks)],
        loop,
        refs=refs,
        max_tokens=recipe.learner.max_tokens_per_microbatch,
        transport=transport_of(recipe, device),
    )


def start_pools(recipe: GRPORecipe, folder: Path, device: Device, seats: Seats) -> RolloutPools:
    """Rollout engines, reward workers and, where KL counts, the reference policy."""
    rollout = recipe.rollout
    transport = transport_of(recipe, device)
    engine = ray.remote(**_options(recipe, device, "rollout", share=rollout.workers))(RolloutWorker)
    reward = ray.remote(**_options(recipe, device, "reward", share=1))(RewardWorker)
    reference: ActorPool | None = None
    if recipe.loss.kl.coef > 0:
        frozen = ray.remote(**_options(recipe, device, "reference", share=1))(ReferencePolicy)
        reference = ActorPool(
            "reference",
            lambda _: frozen.remote(
                folder,
                recipe.policy,
                recipe.prompt,
                learner=recipe.learner,
                temperature=rollout.temperature,
                device=device,
            ),
            1,
            rollout.restarts,
        )
    return RolloutPools(
        engines=ActorPool(
            "rollout",
            lambda slot: engine.options(**seats.seat(slot)).remote(
                folder, recipe.policy, recipe.prompt, rollout, transport
            ),
            rollout.workers,
            rollout.restarts,
        ),
        rewards=ActorPool(
            "reward",
            lambda _: reward.remote(recipe.reward),
            recipe.reward.workers,
            rollout.restarts,
        ),
        reference=reference,
    )


def _options(recipe: GRPORecipe, device: Device, role: str, *, share: int) -> dict[str, Any]:
    """Ray's options of a role's actors; `share` of them divide a CPU machine's cores."""
    planned = next(a for a in planned_actors(recipe, device) if a.role == role)
    options: dict[str, Any] = {"num_gpus": planned.gpus, "num_cpus": planned.cpus}
    if role in ("rollout", "reward"):
        options["max_concurrency"] = _CALLS_AT_A_TIME
    if device == "cpu" and role != "reward":
        # Ray would give an actor that reserves no core a single thread. Threads that spin while
        # they wait make a step ten times slower as soon as anything else wants a core.
        threads = max(1, (os.cpu_count() or 1) // share)
        variables = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        options["runtime_env"] = {"env_vars": variables}
    return options


@dataclass
class RunningActors:
    """All actors of a run, wired."""

    learners: LearnerGroup
    rollouts: Rollouts
    pools: RolloutPools

    def start(self) -> None:
        """Wait until learners have met and engines answer."""
        self.learners.setup()
        self.rollouts.wait_ready()


@contextmanager
def running_actors(recipe: GRPORecipe, folder: Path, device: Device) -> Iterator[RunningActors]:
    """Begin to start everything on the policy in `folder`, hand it out wired, and end it."""
    loop = DriverLoop()
    refs = ProblemRefs(recipe.problems_per_step * (recipe.max_staleness + 2))
    seats = Seats(recipe, device)
    pools = start_pools(recipe, folder, device, seats)
    learners = start_learners(recipe, folder, device, loop, refs=refs, seats=seats)
    try:
        rollouts = Rollouts(loop, learners, pools, refs=refs, tolerance=recipe.sync.tolerance)
        yield RunningActors(learners, rollouts, pools)
    finally:
        pools.kill()
        learners.kill()
        seats.release()
        loop.close()
