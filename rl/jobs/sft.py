"""Supervised runs as one Ray Train job: everything on the driver's side of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_outlives_job
from configs.jobs.sft import AlignRecipe, SFTRecipe
from configs.schema.learner import SFTLearnerConfig
from configs.schema.run import Device
from models.inputs.encoder import InputEncoder
from models.policy.check import check_policy
from models.policy.export_check import check_export
from models.policy.features import check_kind
from rl.algorithms.sft import SFTJob, finished
from rl.console.errors import UserError, as_user_error
from rl.console.progress import CONSOLE
from rl.data.chats import ChatSet
from rl.jobs.prepare import check_resume, checkpoints_of, open_rows, plan_run
from rl.jobs.ray_train import fit
from rl.storage.cache import cache_folder
from rl.storage.fingerprint import check_same_rows
from rl.storage.run_folder import archive_existing_run, save_recipe


def sft_command(recipe: SFTRecipe | AlignRecipe, resume: bool = False) -> None:
    """Run what was asked for on a command line."""
    with ray_session():
        (folder,) = sft_runs([recipe], resume)
    CONSOLE.print(f"the policy lies in {folder}")


def sft_runs(
    recipes: Sequence[SFTRecipe | AlignRecipe],
    resume: bool = False,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> list[Path]:
    """Train as each recipe says, by the same workers, in the Ray session that is open.

    Workers take half a minute to start on a laptop, so what asks for the same ones shares them; how
    often they are started again is the first recipe's to say. `resume` is for one recipe. `before`:
    by a recipe's name, what the first worker does before it begins, and again when workers are
    started again, such as writing the weights that it begins with; all else of its policy must lie
    there already.

    Returns:
        The final policies' folders.

    Raises:
        UserError: the cluster, a policy, the data, a folder or the run to resume lack what a recipe
            asks for, or the recipes ask for different workers; TrainingFailed where
            the job ended before its time.
    """
    workers = {(r.device, *_workers(r.learner)) for r in recipes}
    if len(workers) > 1:
        raise UserError(f"recipes that share workers ask for different ones: {sorted(workers)}")
    placed = [_placed(recipe) for recipe in recipes]
    jobs = [_jobs(recipe, resume) for recipe in placed]
    first = {recipe.name: own for recipe, own in zip(placed, jobs, strict=True)}
    for name, work in (before or {}).items():
        first[name][0] = replace(first[name][0], before=work)
    fit([job for own in jobs for job in own], placed[0].run_folder)
    return [own[-1].recipe.policy_folder for own in jobs]


def _workers(learner: SFTLearnerConfig) -> tuple[int, float, int]:
    return learner.ranks, learner.cpus_per_rank, learner.cpu_threads or 0


def _jobs(recipe: SFTRecipe | AlignRecipe, resume: bool) -> list[SFTJob]:
    """The recipe's runs, once all that it names has been looked at."""
    plan = plan_run(recipe)
    config = check_policy(recipe.policy)
    if recipe.features.keep != "off":
        with as_user_error():
            check_kind(config.model_type)
    runs = recipe.runs if isinstance(recipe, AlignRecipe) else (recipe,)
    check_outlives_job(recipe.run_folder)
    if resume:
        _check_resume(runs)
    else:
        archive_existing_run(recipe.run_folder)
    # Passes change the projector, and never the processor.
    policy = recipe.policy
    encoder = InputEncoder(policy.path, recipe.encoding, policy.trust_remote_code)
    check_export(policy.path, encoder, policy.trust_remote_code)
    jobs = [prepared(run, encoder, plan.device) for run in runs]
    save_recipe(recipe, recipe.run_folder)  # not before: what cannot go on leaves no trace
    return jobs


def _placed(recipe: SFTRecipe | AlignRecipe) -> SFTRecipe | AlignRecipe:
    """The recipe with its folders absolute: workers may stand elsewhere."""
    path = Path(recipe.policy.path)
    features = recipe.features.folder or cache_folder() / "features"
    update = {
        "log": recipe.log.model_copy(update={"folder": recipe.log.folder.resolve()}),
        "policy": recipe.policy.model_copy(
            update={"path": str(path.resolve())} if path.is_dir() else {}
        ),
        "features": recipe.features.model_copy(update={"folder": features.resolve()}),
    }
    return recipe.model_copy(update=update)


def _check_resume(runs: Sequence[SFTRecipe]) -> None:
    """Refuses to go on with nothing, or with a run that has seen other chats so far."""
    for number, run in enumerate(runs):
        if not finished(run):
            checkpoints = checkpoints_of(run)
            check_resume(run, checkpoints.newest() if number else checkpoints.to_resume())


def prepared(run: SFTRecipe, encoder: InputEncoder, device: Device) -> SFTJob:
    """The run with its rows checked, which happens once and here."""
    chats, held_out = open_rows(run, ChatSet.open, encoder.measure_chat)
    if newest := checkpoints_of(run).newest():
        check_same_rows(newest.folder, chats.index.fingerprints, run.data.source)
    save_recipe(run, run.run_folder)
    return SFTJob(run, chats.index, held_out.index if held_out else None, device)
