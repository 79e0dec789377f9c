"""Supervised runs as one Ray Train job: everything on the driver's side of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_run_folder
from configs.jobs.sft import AlignRecipe, SFTRecipe
from configs.schema.learner import SFTLearnerConfig
from configs.schema.run import Device
from models.inputs.encoder import InputEncoder
from models.policy.check import check_policy
from models.policy.export_check import check_export
from models.policy.families import check_packing, check_sequence_parallel
from rl.algorithms.sft import SFTJob, finished
from rl.console.errors import UserError
from rl.console.progress import CONSOLE
from rl.data.row_outcomes import KnownMeasure
from rl.jobs.prepare import (
    check_features,
    check_resume,
    check_sources,
    checkpoints_of,
    open_chats,
    plan_run,
    with_absolute_folders,
)
from rl.jobs.ray_train import fit
from rl.storage.fingerprint import check_same_rows
from rl.storage.run_folder import aside_of, save_recipe, take_run_folder


def sft_command(recipe: SFTRecipe | AlignRecipe, resume: bool = False) -> None:
    """Run what was asked for on a command line."""
    looked = _look(recipe, resume)
    with ray_session():
        (folder,) = _run([looked])
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
    return _run([_look(recipe, resume) for recipe in recipes], before)


def _run(
    looked: Sequence["_Looked"], before: Mapping[str, Callable[[], object]] | None = None
) -> list[Path]:
    jobs = [_jobs(each) for each in looked]
    first = {each.recipe.name: own for each, own in zip(looked, jobs, strict=True)}
    for name, work in (before or {}).items():
        first[name][0] = replace(first[name][0], before=work)
    fit([job for own in jobs for job in own], looked[0].recipe.run_folder)
    return [own[-1].recipe.policy_folder for own in jobs]


def _workers(learner: SFTLearnerConfig) -> tuple[int, float, int]:
    return learner.ranks, learner.cpus_per_rank, learner.cpu_threads or 0


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was looked at before Ray starts."""

    recipe: SFTRecipe | AlignRecipe
    """With absolute folders."""
    runs: Sequence[SFTRecipe]
    encoder: InputEncoder
    resume: bool


def _look(recipe: SFTRecipe | AlignRecipe, resume: bool) -> _Looked:
    """Refuse what can be refused without a cluster and without reading the rows."""
    recipe = with_absolute_folders(recipe)
    policy = recipe.policy
    config = check_policy(policy)
    check_packing(config, recipe.prompt.max_tokens, "prompt.max_tokens")
    check_sequence_parallel(config, recipe.learner.sequence_parallel_size)
    check_features(recipe, config)
    runs = recipe.runs if isinstance(recipe, AlignRecipe) else (recipe,)
    check_run_folder(recipe.run_folder)
    for run in runs:
        check_sources(run)
    if resume:
        _check_resume(runs)
    # Passes change the projector, and never the processor.
    encoder = InputEncoder(policy.path, recipe.encoding, policy.trust_remote_code)
    check_export(policy.path, encoder, policy.trust_remote_code)
    return _Looked(recipe, runs, encoder, resume)


def _jobs(looked: _Looked) -> list[SFTJob]:
    """The recipe's runs, once the cluster holds them and their rows have been looked at."""
    recipe, runs, resume = looked.recipe, looked.runs, looked.resume
    plan = plan_run(recipe)
    aside = aside_of(recipe.run_folder)
    jobs: list[SFTJob] = []
    for run in runs:
        within = run.run_folder.relative_to(recipe.run_folder)
        job = prepared(run, looked.encoder, plan.device, aside / within, resume)
        jobs.append(replace(job, part_of=recipe if isinstance(recipe, AlignRecipe) else None))
    take_run_folder(recipe.run_folder, aside, new=not resume)
    if not resume:  # else workers do it, once they have read what they go on from
        for each in (*runs, recipe):
            save_recipe(each, each.run_folder)
    return jobs


def _check_resume(runs: Sequence[SFTRecipe]) -> None:
    """Refuses to go on with nothing, or with a run that has seen other chats so far."""
    for number, run in enumerate(runs):
        if not finished(run):
            checkpoints = checkpoints_of(run)
            check_resume(run, checkpoints.newest() if number else checkpoints.to_resume())


def prepared(
    run: SFTRecipe, encoder: InputEncoder, device: Device, rejected: Path, resume: bool = False
) -> SFTJob:
    """The run with its rows checked, which happens once and here; bad ones go to `rejected`."""
    chats, held_out = open_chats(
        run, KnownMeasure(encoder.measure_chat, encoder.settings), rejected
    )
    if resume and (newest := checkpoints_of(run).newest()):
        check_same_rows(newest.folder, chats.index.fingerprints, run.data.source)
    return SFTJob(run, chats.index, held_out.index if held_out else None, device)
