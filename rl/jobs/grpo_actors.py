"""Starting a run's actors on a Ray cluster, and ending them."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray

from actors.cluster.cpu_threads import cpu_thread_variables
from actors.cluster.driver_loop import DriverLoop
from actors.cluster.object_refs import ProblemRefs
from actors.cluster.placement import Placement
from actors.cluster.plan import Plan
from actors.cluster.pool import ActorPool
from actors.rollout.rollouts import RolloutPools, Rollouts, Teacher
from actors.rollout.vllm_engine import for_embeddings
from actors.scoring.reference import ReferencePolicy
from actors.scoring.teacher import TeacherPolicy
from actors.training.learner import LearnerRank, LearnerSpec
from actors.training.learner_group import LearnerGroup
from actors.weight_transfer.sync import WeightSync
from configs.jobs.grpo import GRPORecipe
from configs.schema.rollout import DistributionConfig, engine_dtype
from rl.algorithms.minibatches import UpdatePlan
from rl.jobs.generate import actor_options, health_of, start_engines, start_rewards

_HEALTH = "health"
"""Ray's concurrency group of the calls that ask a frozen policy whether it lives."""


def learner_spec(recipe: GRPORecipe, folder: Path, device: str) -> LearnerSpec:
    """What the learner ranks of a run are told."""
    return LearnerSpec(
        folder=folder,
        policy=recipe.policy,
        prompt=recipe.prompt,
        loss=recipe.loss,
        learner=recipe.learner,
        engine_dtype=engine_dtype(recipe.policy, recipe.rollout),
        distribution=recipe.rollout.distribution,
        critical_words=recipe.log.critical_words,
        features=recipe.features,
        total_steps=recipe.steps * recipe.learner.updates_per_step,
        reference=None if recipe.reference_in == "actor" else recipe.reference_in,
        offload_reference=recipe.reference.offload,
        device=device,
        yields_gpu=device == "cuda" and recipe.engines_sleep,
        offload_optimizer=recipe.sync.offload_optimizer,
        traces=recipe.run_folder / "traces",
    )


def start_learners(
    recipe: GRPORecipe,
    folder: Path,
    plan: Plan,
    loop: DriverLoop,
    *,
    refs: ProblemRefs,
    seats: Placement,
) -> LearnerGroup:
    """Learner ranks on the policy in `folder`; they meet in `setup`."""
    assert plan.transport is not None, "a GRPO run sends weights"
    spec = learner_spec(recipe, folder, plan.device)
    make = ray.remote(**_options(recipe, plan, "learner"))(LearnerRank)
    return LearnerGroup(
        [
            make.options(**seats.options_for("learner", rank)).remote(spec, rank)
            for rank in range(recipe.learner.ranks)
        ],
        loop,
        refs=refs,
        plan=UpdatePlan.of(recipe),
        learner=recipe.learner,
        transport=plan.transport,
    )


def start_pools(recipe: GRPORecipe, folder: Path, plan: Plan, seats: Placement) -> RolloutPools:
    """Rollout engines, reward workers, the reference where it is an actor, and the teacher."""
    reference, teacher = None, None
    if recipe.reference_in == "actor":
        reference = _start_frozen(recipe, folder, plan, seats, role="reference")
    if recipe.teacher is not None:
        pool = _start_frozen(recipe, recipe.teacher.path or folder, plan, seats, role="teacher")
        teacher = Teacher(pool, recipe.teacher.context, recipe.loss.distill.top_k)
    if recipe.features.reach_engines(recipe.policy.train):
        recipe = recipe.model_copy(update={"rollout": for_embeddings(recipe.rollout)})
    engines = start_engines(recipe, folder, plan, seats, threads_of(recipe, "rollout"))
    rewards, most = start_rewards(recipe, plan, seats), recipe.rollout.max_workers
    return RolloutPools(engines, rewards, reference, teacher, most)


def _start_frozen(
    recipe: GRPORecipe,
    folder: str | Path,
    plan: Plan,
    seats: Placement,
    *,
    role: Literal["reference", "teacher"],
) -> ActorPool:
    """The actor of the frozen policy in `folder`."""
    kind: Any = TeacherPolicy if role == "teacher" else ReferencePolicy
    model = recipe.teacher if role == "teacher" else recipe.policy
    section = recipe.teacher if role == "teacher" else recipe.reference
    assert model is not None and section is not None
    distribution = recipe.rollout.distribution
    if role == "teacher":  # says what it thinks of every token, drawn from or not
        distribution = DistributionConfig(temperature=distribution.temperature)
    options = _options(recipe, plan, role)
    options["concurrency_groups"] = {_HEALTH: 1}
    make = ray.remote(**options)(kind)
    health = health_of(  # beside what it computes, which it does one call at a time
        recipe, lambda policy: policy.__ray_ready__.options(concurrency_group=_HEALTH).remote()
    )
    return ActorPool(
        role,
        lambda _: make.options(**seats.options_for(role)).remote(
            folder,
            model,
            recipe.prompt,
            learner=recipe.learner,
            distribution=distribution,
            device=plan.device,
        ),
        1,
        section.restarts,
        health,
        run=recipe.name,
    )


def _options(recipe: GRPORecipe, plan: Plan, role: str) -> dict[str, Any]:
    """Ray's options of the learners or a frozen policy."""
    return actor_options(plan, role, threads_of(recipe, role))


def threads_of(recipe: GRPORecipe, role: str) -> dict[str, str]:
    """Environment of a role's actors on a CPU machine.

    Frozen policies read groups while engines still write others. Learners take turns with
    them, unless answers may be late.
    """
    learners = recipe.learner.ranks
    frozen = (recipe.reference_in == "actor") + (recipe.teacher is not None)
    others = recipe.rollout.workers + frozen
    share = learners if role == "learner" else others
    if recipe.max_staleness:
        share = learners + others
    owner = recipe.rollout if role == "rollout" else recipe.learner
    return cpu_thread_variables(share, owner.cpu_threads)


@dataclass
class RunningActors:
    """All actors of a run, wired."""

    learners: LearnerGroup
    rollouts: Rollouts
    weights: WeightSync
    pools: RolloutPools
    shared_gpu: bool = False
    """Learner ranks and engines sit on the same GPUs."""

    def start(self) -> None:
        """Wait until learners have met and engines answer.

        On a GPU of both the engine comes first: what a learner takes while vLLM measures its own
        needs, vLLM would count as its own. Engines that sleep then do so until the first sync.
        """
        if self.shared_gpu:
            self.rollouts.wait_ready()
            self.weights.make_room()
        self.learners.setup()
        self.rollouts.kept = self.learners.kept_embeddings()
        self.rollouts.wait_ready()


@contextmanager
def running_actors(recipe: GRPORecipe, folder: Path, plan: Plan) -> Generator[RunningActors]:
    """Begin to start everything on the policy in `folder`, hand it out wired, and end it."""
    loop = DriverLoop()
    refs = ProblemRefs(recipe.problems_per_step * (recipe.max_staleness + 2))
    seats = Placement(plan, recipe.name, recipe.cluster.reserve_timeout_s)
    pools = start_pools(recipe, folder, plan, seats)
    learners = start_learners(recipe, folder, plan, loop, refs=refs, seats=seats)
    try:
        weights = WeightSync(
            learners,
            pools.engines,
            recipe.sync,
            loop,
            sleeps=plan.engines_sleep,
            run=recipe.name,
        )
        pools.engines.on_restart(weights.run)
        rollouts = Rollouts(loop, pools, refs=refs, timeout_s=recipe.rollout.timeout_s)
        yield RunningActors(learners, rollouts, weights, pools, plan.shares_gpus)
    finally:
        loop.close()  # first, so that nobody replaces what is killed
        pools.kill()
        learners.kill()
        seats.release()
