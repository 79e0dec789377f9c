"""A policy that answers and does not learn: engines and reward workers without a learner."""

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from actors.cluster.cpu_threads import cpu_thread_variables
from actors.cluster.driver_loop import DriverLoop
from actors.cluster.members import Health
from actors.cluster.object_refs import ProblemRefs
from actors.cluster.placement import Placement
from actors.cluster.plan import Plan, server_of
from actors.cluster.pool import CALLS_AT_A_TIME, ActorPool
from actors.rollout.endpoint_worker import EndpointWorker, NoAnswer
from actors.rollout.rewriting_worker import RewritingWorker
from actors.rollout.rollouts import RolloutPools, Rollouts
from actors.rollout.worker import RolloutWorker
from actors.scoring.reward_worker import RewardWorker
from configs.jobs.distill import TeacherConfig
from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from models.inputs.encoder import InputEncoder
from models.inputs.think_tags import reward_for_template
from rl.console.errors import UserError
from rl.console.progress import phase


@contextmanager
def generation(
    recipe: GenerationRecipe, plan: Plan, *, problems_at_a_time: int
) -> Generator[Rollouts]:
    """Start engines on `recipe.policy` and reward workers, hand out the rollouts, and end all.

    Where the policy is served elsewhere, one client of that server stands for the engines.

    `problems_at_a_time`: most problems that will be under way, each held once in the object store.

    Raises:
        UserError: the server refuses or is out of reach, or the recipe's think template is not
            the policy's.
    """
    recipe = _for_template(recipe)
    loop = DriverLoop()
    refs = ProblemRefs(problems_at_a_time)
    seats = Placement(plan, recipe.name, recipe.cluster.reserve_timeout_s)
    threads = cpu_thread_variables(recipe.rollout.workers, recipe.rollout.cpu_threads)
    if server_of(recipe):
        engines = start_client(recipe, plan, seats)
    else:
        engines = start_engines(recipe, Path(recipe.policy.path), plan, seats, threads)
    rewards, most = start_rewards(recipe, plan, seats), recipe.rollout.max_workers
    pools = RolloutPools(engines, rewards, most_engines=None if server_of(recipe) else most)
    try:
        rollouts = Rollouts(loop, pools, refs=refs, timeout_s=recipe.rollout.timeout_s)
        with phase("starting engines"):
            rollouts.wait_ready()
        yield rollouts
    except RayTaskError as error:
        if isinstance(error.cause, NoAnswer):
            raise UserError(str(error.cause)) from None
        raise
    finally:
        loop.close()  # first, so that nobody replaces what is killed
        pools.kill()
        seats.release()


def _for_template(recipe: GenerationRecipe) -> GenerationRecipe:
    """The recipe with what its policy's chat template settles; a server's is its own affair."""
    if server_of(recipe):
        return recipe
    policy = recipe.policy
    encoder = InputEncoder(policy.path, recipe.prompt, policy.trust_remote_code)
    reward = reward_for_template(recipe.reward, encoder)
    return recipe.model_copy(update={"reward": reward})


def start_engines(
    recipe: GRPORecipe | GenerationRecipe,
    folder: Path,
    plan: Plan,
    seats: Placement,
    threads: Mapping[str, str],
) -> ActorPool:
    """Rollout workers on the policy in `folder`; `threads`: their environment on a CPU machine."""
    rollout, thinking = recipe.rollout, recipe.reward.thinking
    make = ray.remote(**actor_options(plan, "rollout", threads))(RolloutWorker)

    def start(slot: int) -> Any:
        options = seats.options_for("rollout", slot)
        if slot >= rollout.workers:  # comes later, and waits for room on a CPU machine too
            options |= {"num_cpus": rollout.cpus_per_worker}
        return make.options(**options).remote(
            folder, recipe.policy, recipe.prompt, rollout, plan.transport, thinking
        )

    return ActorPool(
        "rollout",
        start,
        rollout.workers,
        rollout.restarts,
        health_of(recipe, lambda worker: worker.wait_ready.remote()),
        run=recipe.name,
    )


def start_client(recipe: GenerationRecipe, plan: Plan, seats: Placement) -> ActorPool:
    """The client of the server that answers in place of engines, or rewrites as a teacher."""
    client = RewritingWorker if isinstance(recipe.policy, TeacherConfig) else EndpointWorker
    make: Any = ray.remote(**actor_options(plan, "rollout", {}))(client)
    return ActorPool(
        "rollout",
        lambda slot: make.options(**seats.options_for("rollout", slot)).remote(
            recipe.policy, recipe.prompt, recipe.reward.thinking
        ),
        1,
        recipe.rollout.restarts,
        run=recipe.name,
    )


def start_rewards(recipe: GRPORecipe | GenerationRecipe, plan: Plan, seats: Placement) -> ActorPool:
    """Reward workers, as many as the recipe says."""
    reward = recipe.reward
    make = ray.remote(**actor_options(plan, "reward", {}))(RewardWorker)
    return ActorPool(
        "reward",
        lambda slot: make.options(**seats.options_for("reward", slot)).remote(reward),
        reward.workers,
        reward.restarts,
        health_of(recipe, lambda worker: worker.stats.remote()),
        run=recipe.name,
    )


def health_of(
    recipe: GRPORecipe | GenerationRecipe, ping: Callable[[Any], Awaitable[object]]
) -> Health:
    """How actors that answer `ping` are watched."""
    return Health(ping, recipe.rollout.health_timeout_s, recipe.cluster.reserve_timeout_s)


def actor_options(plan: Plan, role: str, threads: Mapping[str, str]) -> dict[str, Any]:
    """Ray's options of a role's actors; `threads`: their environment on a CPU machine."""
    planned = plan.role(role)
    options: dict[str, Any] = {"num_gpus": planned.gpus, "num_cpus": planned.cpus}
    if planned.resources:
        options["resources"] = dict(planned.resources)
    if role in ("rollout", "reward"):
        options["max_concurrency"] = CALLS_AT_A_TIME
    if plan.device == "cpu" and threads:
        options["runtime_env"] = {"env_vars": dict(threads)}
    return options
