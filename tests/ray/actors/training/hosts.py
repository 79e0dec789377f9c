"""Processes of learner ranks that learn one job after another."""

from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist

from actors.cluster.cpu_threads import cpu_thread_variables
from actors.cluster.driver_loop import DriverLoop
from actors.cluster.object_refs import ProblemRefs
from actors.training.learner import LearnerRank, LearnerSpec
from actors.training.learner_group import LearnerGroup
from configs.jobs.grpo import GRPORecipe
from rl.algorithms.minibatches import UpdatePlan
from rl.jobs.grpo_actors import learner_spec


class Reborn(LearnerRank):
    """A learner whose process can learn another job: starting one is what takes long."""

    def _init_process_group(self, address: str, port: int) -> None:
        if not dist.is_initialized():
            super()._init_process_group(address, port)

    def learn_another(self, job: LearnerSpec) -> None:
        """Let go of all that was learned, and take up `job`."""
        self._engine.close()
        LearnerRank.__init__(self, job, self._rank)


class Hosts:
    """One rank, and two that have met, for all jobs here, one after another."""

    def __init__(self) -> None:
        self._loop = DriverLoop()
        self._handles: dict[int, list[Any]] = {}

    def group(self, plan: GRPORecipe, folder: Path) -> LearnerGroup:
        """Learners of `plan`, set up; those before them are gone."""
        ranks = plan.learner.ranks
        job = learner_spec(plan, folder, "cpu")
        if ranks in self._handles:
            ray.get([handle.learn_another.remote(job) for handle in self._handles[ranks]])
        else:
            make = ray.remote(num_cpus=0, runtime_env={"env_vars": cpu_thread_variables(ranks)})(
                Reborn
            )
            self._handles[ranks] = [make.remote(job, rank) for rank in range(ranks)]
        group = LearnerGroup(
            self._handles[ranks],
            self._loop,
            refs=ProblemRefs(64),
            plan=UpdatePlan.of(plan),
            learner=plan.learner,
            transport="gloo",
        )
        group.setup()
        return group

    def close(self) -> None:
        """End the processes."""
        for handle in (handle for handles in self._handles.values() for handle in handles):
            ray.kill(handle)
        self._loop.close()
