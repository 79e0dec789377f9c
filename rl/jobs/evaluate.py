"""An evaluation from its recipe to its report."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.cluster.plan import Plan, server_of
from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_run_folder
from configs.jobs.evaluate import EvaluateRecipe
from configs.loading.recipe import SAVED_AS
from configs.schema.rollout import SamplingConfig
from models.inputs.encoder import InputEncoder
from models.inputs.think_tags import reward_for_template
from models.policy.check import read_config
from rewards.trial import try_rewards
from rl.algorithms.interfaces import AnswerStream
from rl.benchmarks.answers import answers_file, answers_writer, read_answers
from rl.benchmarks.evaluation import EvaluationSettings, evaluate
from rl.benchmarks.published import Benchmark, Limits, open_benchmark
from rl.benchmarks.report import percent, report_text, write_report
from rl.console.errors import UserError, as_user_error
from rl.console.progress import CONSOLE
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from rl.jobs.generate import generation
from rl.jobs.prepare import plan_run
from rl.jobs.resume import check_unchanged
from rl.run_log.benchmark_figures import BenchmarkResult
from rl.run_log.wandb_tracker import Tracker
from rl.storage.run_folder import aside_of, save_recipe, take_run_folder

_ASKED_WITH = (*SamplingConfig.model_fields, "max_new_tokens")
_FIXED = (
    *("seed", "options_seed", "policy.path", "policy.dtype", "prompt", "reward"),
    *(f"rollout.{name}" for name in _ASKED_WITH),
)
"""What decides an answer and its score; benchmarks are checked question by question."""
_FREE = ("reward.workers", "reward.processes", "reward.restarts", "prompt.max_images")
"""What a run that goes on may change of these, since no answer and no score depends on it."""


def evaluate_run(recipe: EvaluateRecipe, resume: bool = False) -> dict[str, BenchmarkResult]:
    """Ask the recipe's benchmarks, or what is left of them; results by their names.

    Raises:
        UserError: the policy, a benchmark or a reward cannot be used, or --resume has nothing to
            go on from, or would go on otherwise than it began.
    """
    looked = _look(recipe, resume)
    with ray_session():
        return _run(looked, resume)


def evaluate_in_session(recipe: EvaluateRecipe, resume: bool) -> dict[str, BenchmarkResult]:
    """What `evaluate_run` does, in the Ray session that is open."""
    return _run(_look(recipe, resume), resume)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was looked at before Ray starts."""

    recipe: EvaluateRecipe
    settled: EvaluateRecipe
    """With what its policy's chat template settles."""
    opened: list[Benchmark]
    aside: Path
    """Where rows that cannot be used are listed."""


def _look(recipe: EvaluateRecipe, resume: bool) -> _Looked:
    """Refuse what can be refused without a cluster."""
    check_run_folder(recipe.run_folder)
    if resume:
        _check_resume(recipe)
    aside = aside_of(recipe.run_folder)
    settled, limits = _looked_at(recipe, aside)
    return _Looked(recipe, settled, _opened(settled, limits), aside)


def _run(looked: _Looked, resume: bool) -> dict[str, BenchmarkResult]:
    recipe, opened = looked.settled, looked.opened
    plan = plan_run(recipe)
    take_run_folder(recipe.run_folder, looked.aside, new=not resume)
    save_recipe(looked.recipe, recipe.run_folder)
    results: dict[str, BenchmarkResult] = {}
    with _answering(recipe, plan, opened) as rollouts:
        for benchmark in opened:
            results[benchmark.name] = _asked(recipe, benchmark, rollouts)
            _report(recipe, opened, list(results.values()))
    CONSOLE.print(report_text(_protocol(recipe), list(results.values()), _rejected(opened)))
    CONSOLE.print(f"all answers and this report lie in {recipe.run_folder}")
    if recipe.log.wandb:
        _track(recipe, results)
    return results


def _check_resume(recipe: EvaluateRecipe) -> None:
    saved = recipe.run_folder / SAVED_AS
    if not saved.is_file():
        raise UserError(
            f"--resume: {recipe.run_folder} holds no run; name the one that should go on, or start "
            "it without --resume"
        )
    check_unchanged(saved, recipe, _FIXED, _FREE)


def _opened(recipe: EvaluateRecipe, limits: Limits) -> list[Benchmark]:
    """All benchmarks, their rows and the rewards looked at before anything is asked."""
    opened: list[Benchmark] = []
    for config in recipe.benchmarks:
        with as_user_error():
            opened.append(open_benchmark(config, limits, recipe.options_seed))
        try_rewards(recipe.reward, opened[-1].problems[0])
    return opened


def _looked_at(recipe: EvaluateRecipe, rejected: Path) -> tuple[EvaluateRecipe, Limits]:
    """The recipe with what its policy's chat template settles, and what a prompt may be.

    A server's template and its prompts' lengths are its own affair.
    """
    limit, policy = recipe.prompt.max_tokens, recipe.policy
    if server_of(recipe):
        return recipe, Limits(lambda problem: 0, limit, rejected)
    read_config(policy)
    encoder = InputEncoder(policy.path, recipe.prompt, policy.trust_remote_code)
    reward = reward_for_template(recipe.reward, encoder)
    recipe = recipe.model_copy(update={"reward": reward})
    return recipe, Limits(encoder.measure, limit, rejected)


class _Nobody:
    """Answers nothing, where nothing is left to ask."""

    def stream(
        self, asked: Iterable[tuple[Problem, SamplingRequest]], *, at_a_time: int
    ) -> Iterator[tuple[int, ScoredGroup]]:
        assert not list(asked), "there was an answer to every problem"
        return iter(())


@contextmanager
def _answering(
    recipe: EvaluateRecipe, plan: Plan, opened: list[Benchmark]
) -> Generator[AnswerStream]:
    """Engines or a server's client; nobody where every answer is there."""
    if all(_complete(recipe, benchmark) for benchmark in opened):
        yield _Nobody()
        return
    with generation(recipe, plan, problems_at_a_time=recipe.at_a_time) as rollouts:
        yield rollouts


def _complete(recipe: EvaluateRecipe, benchmark: Benchmark) -> bool:
    there = {(a.problem, a.sample) for a in read_answers(_file(recipe, benchmark))}
    samples = range(recipe.rollout.samples)
    return all((p.id, sample) in there for p in benchmark.problems for sample in samples)


def _file(recipe: EvaluateRecipe, benchmark: Benchmark) -> Any:
    return answers_file(recipe.run_folder, benchmark.name)


def _asked(recipe: EvaluateRecipe, benchmark: Benchmark, rollouts: AnswerStream) -> BenchmarkResult:
    path = _file(recipe, benchmark)
    rollout = recipe.rollout
    settings = EvaluationSettings(
        name=benchmark.name,
        samples=rollout.samples,
        sampling=rollout,
        max_new_tokens=rollout.max_new_tokens,
        seed=recipe.seed,
        reward=recipe.reward,
        at_a_time=recipe.at_a_time,
    )
    answered = read_answers(path)
    with answers_writer(path) as writer, as_user_error():
        result = evaluate(
            rollouts,
            benchmark.problems,
            settings,
            answered=answered,
            keep=lambda answer: writer.write(answer.line()),
        )
    figures = result.figures
    low, high = percent(figures.get("low")), percent(figures.get("high"))
    CONSOLE.print(f"{result.name}: {percent(figures.get('accuracy'))} % right, {low} to {high}")
    return result


def _report(recipe: EvaluateRecipe, opened: list[Benchmark], done: list[BenchmarkResult]) -> None:
    write_report(recipe.run_folder, _protocol(recipe), done, _rejected(opened))


def _rejected(opened: list[Benchmark]) -> dict[str, int]:
    return {benchmark.name: sum(benchmark.rejected.values()) for benchmark in opened}


def _protocol(recipe: EvaluateRecipe) -> dict[str, Any]:
    """Which model was asked, and how."""
    server = server_of(recipe)
    return {
        "model": recipe.policy.path,
        **({"server": server.endpoint} if server else {}),
        "samples": recipe.rollout.samples,
        **{name: getattr(recipe.rollout, name) for name in _ASKED_WITH},
        "seed": recipe.seed,
        "options_seed": recipe.options_seed,
    }


def _track(recipe: EvaluateRecipe, results: dict[str, BenchmarkResult]) -> None:
    """Hand all figures to Weights & Biases."""
    tracker = Tracker(recipe.run_folder, recipe.name, recipe.model_dump(mode="json"))
    figures = {
        f"{name}/{figure}": value
        for name, result in results.items()
        for figure, value in result.figures.items()
    }
    tracker.write(0, figures)
    tracker.close()
