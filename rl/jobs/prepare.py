"""What every run does before its actors start: the plan, the folder, the rows."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from actors.cluster.nodes import nodes_to_come
from actors.cluster.plan import Plan, Recipe
from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import AlignRecipe, SFTRecipe, SupervisedRecipe
from configs.loading.recipe import SAVED_AS
from configs.schema.data import ChatDataConfig, PreferenceDataConfig
from configs.schema.policy import ModelConfig
from models.policy.features import check_kind
from rl.console.errors import as_user_error
from rl.console.progress import CONSOLE
from rl.data.chats import ChatSet
from rl.data.problems import ProblemSet
from rl.data.records import Problem
from rl.data.training_problems import TrainingProblems
from rl.jobs.resume import changes_to_apply
from rl.planning.check import planned_run
from rl.planning.machine import Machine
from rl.planning.tables import print_run
from rl.storage.cache import cache_folder
from rl.storage.checkpoints import Checkpoint, Checkpoints
from rl.tables.sources import check_path


class StartPolicy(Protocol):
    """A policy that is made where it is not cached."""

    @property
    def folder(self) -> Path:
        """Where it lies, or will."""
        ...

    def untrained(self) -> Path:
        """A policy with the same tokenizer and processor, made in an instant."""
        ...

    def make(self) -> Path:
        """Make it, in the Ray session that is open."""
        ...


def plan_run(recipe: Recipe) -> Plan:
    """The run's plan on the cluster of the open Ray session, now or once its autoscaler has brought
    all nodes that it may.

    Raises:
        UserError: the cluster lacks what it asks for, or a setting is unknown.
    """
    check_settings(recipe)
    run = planned_run(recipe, Machine.of_cluster(recipe, nodes_to_come()))
    if run.plan.device == "cuda":
        print_run(run)
    run.refuse_what_does_not_fit()
    return run.plan


def check_settings(recipe: Recipe) -> None:
    """Check settings that the recipe hands on to vLLM and DeepSpeed, by what these know, and try
    the user's own loss and advantage.

    Raises:
        UserError: they do not know one, or other keys of the recipe decide it; or a function is not
            there, or does not do.
    """
    # Their code takes a driver seconds to import, so only where there are settings.
    if not isinstance(recipe, SupervisedRecipe) and recipe.rollout.engine_args:
        from actors.rollout.vllm_engine import engine_args

        policy, prompt = recipe.policy, recipe.prompt
        engine_args(policy.path, policy, prompt, recipe.rollout, None, has_vision=True)
    if not isinstance(recipe, GenerationRecipe) and recipe.learner.zero_optimization:
        from actors.training.deepspeed_engine import check_zero_settings

        copied = isinstance(recipe, GRPORecipe) and recipe.reference_in == "shards"
        check_zero_settings(recipe.learner, recipe.learner.zero_stage == 3 or copied)
    if isinstance(recipe, GRPORecipe) and recipe.loss.own_functions:
        from rl.objectives.trial import try_objectives

        try_objectives(recipe.loss)
        for key, where in recipe.loss.own_functions.items():
            CONSOLE.print(f"{key}: {where}, tried on a small batch")


R = TypeVar("R", bound=GRPORecipe | SFTRecipe | AlignRecipe)


def with_absolute_folders(recipe: R) -> R:
    """The recipe with the folders that it names absolute: actors may stand elsewhere."""
    features = recipe.features.folder or cache_folder() / "features"
    update: dict[str, BaseModel] = {
        "features": recipe.features.model_copy(update={"folder": features.resolve()}),
        "log": recipe.log.model_copy(update={"folder": recipe.log.folder.resolve()}),
        "policy": _absolute(recipe.policy),
    }
    if isinstance(recipe, GRPORecipe) and recipe.teacher is not None:
        update["teacher"] = _absolute(recipe.teacher)
    return recipe.model_copy(update=update)


def _absolute(model: ModelConfig) -> ModelConfig:
    path = Path(model.path)
    there = model.path and path.is_dir()
    return model.model_copy(update={"path": str(path.resolve())} if there else {})


def check_features(recipe: GRPORecipe | SupervisedRecipe, config: Any) -> None:
    """Say whether engines read kept features.

    Raises:
        UserError: features are to be kept and the policy of transformers' `config` has none, or
            engines are to read them, and a setting of theirs forbids it.
    """
    if recipe.features.keep == "off":
        return
    with as_user_error():
        check_kind(config.model_type)
    if isinstance(recipe, GRPORecipe):
        from actors.rollout.vllm_engine import for_embeddings

        train = recipe.policy.train
        if shared := recipe.features.reach_engines(train):
            for_embeddings(recipe.rollout)
        told = "what is kept of an image, in place of its pixels" if shared else "pixels"
        CONSOLE.print(
            f"engines read {told} (features.keep={recipe.features.keep}, policy.train="
            f"{list(train)})"
        )


def checkpoints_of(recipe: GRPORecipe | SFTRecipe) -> Checkpoints:
    """The run's checkpoints, kept as the recipe says."""
    return Checkpoints(recipe.run_folder / "checkpoints", recipe.checkpoint.keep)


def check_resume(recipe: GRPORecipe | SFTRecipe, newest: Checkpoint | None) -> Checkpoint | None:
    """`newest`, once the recipe may go on from it; what it changes is told.

    Raises:
        CannotResume: it changes what may not change.
    """
    if newest is not None:
        for change in changes_to_apply(newest.folder / SAVED_AS, recipe):
            CONSOLE.print(f"from step {newest.step} on, {change}")
    return newest


def check_sources(recipe: GRPORecipe | SFTRecipe) -> None:
    """Refuse data files that are not there; for before Ray starts, and rows are read."""
    own = recipe.data.sources.values() if isinstance(recipe, GRPORecipe) else [recipe.data]
    for data in (*own, recipe.evaluation.data):
        if data is not None:
            check_path(data.source)


_HELD_OUT = "rejected_held_out.jsonl"


def open_chats(
    recipe: SFTRecipe, measure: Callable[[Any], int], rejected: Path
) -> tuple[ChatSet, ChatSet | None]:
    """The recipe's chats and its held-out ones, each checked.

    `measure`: tokens of a chat; `rejected`: folder of the lists of rows that cannot be used.
    """

    def opened(data: ChatDataConfig | PreferenceDataConfig, rejected: Path) -> ChatSet:
        with as_user_error():  # where there is no such source or column, or no format that is known
            return ChatSet.open(
                data,
                measure=measure,
                max_tokens=recipe.prompt.max_tokens,
                rejected=rejected,
                seed=recipe.seed,
            )

    held_out = None  # few, so what is wrong with them is told before all others are read
    if recipe.evaluation.data is not None:
        held_out = opened(recipe.evaluation.data, rejected / _HELD_OUT)
    return opened(recipe.data, rejected / "rejected.jsonl"), held_out


def open_problems(
    recipe: GRPORecipe, measure: Callable[[Problem], int], rejected: Path
) -> tuple[TrainingProblems, ProblemSet | None]:
    """The recipe's problems, of all its sources, and its held-out ones; as `open_chats`."""
    opened = partial(ProblemSet.open, measure=measure, max_tokens=recipe.prompt.max_tokens)
    held_out, data = None, recipe.data
    column = data.curriculum.column if data.curriculum else None
    with as_user_error():
        if recipe.evaluation.data is not None:
            held_out = opened(recipe.evaluation.data, rejected=rejected / _HELD_OUT)
        sets = {
            name: opened(
                own,
                rejected=rejected / (f"rejected_{name}.jsonl" if name else "rejected.jsonl"),
                name=name,
                sorted_by=column,
            )
            for name, own in data.sources.items()
        }
        return TrainingProblems(sets, data, recipe.seed), held_out
