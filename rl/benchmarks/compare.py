"""Two evaluations side by side: the same problems, paired."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.jobs.evaluate import CompareRecipe
from rl.benchmarks.answers import answers_folder, read_answers
from rl.benchmarks.report import percent, table
from rl.console.errors import UserError
from rl.console.progress import CONSOLE
from rl.run_log.benchmark_figures import ScoredAnswer, benchmark_result
from rl.run_log.significance import PairedTest, paired_test
from rl.storage.atomic import atomic_file


@dataclass(frozen=True, slots=True)
class Comparison:
    """A benchmark that both runs asked."""

    name: str
    test: PairedTest
    left_out: int
    """Problems that only one of the two asked or could score, or that they asked differently."""


def compare_runs(recipe: CompareRecipe) -> list[Comparison]:
    """Compare two run folders, and show and write the table.

    Raises:
        UserError: a folder holds no answers, or the two have no problem in common.
    """
    first, second = Path(recipe.first), Path(recipe.second)
    comparisons = compare(first, second, recipe.seed)
    text = comparison_text(str(first), str(second), comparisons)
    CONSOLE.print(text)
    if recipe.out is not None:
        out = Path(recipe.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as aside:
            aside.write_text(text, "utf-8")
    return comparisons


def compare(first: Path, second: Path, seed: int) -> list[Comparison]:
    """Benchmarks that both run folders hold answers to. Raises as `compare_runs` does."""
    ours, theirs = _answers_in(first), _answers_in(second)
    both = [name for name in ours if name in theirs]
    if not both:
        raise UserError(
            f"{first} has answers to {', '.join(ours)}, and {second} to {', '.join(theirs)}: no "
            "benchmark in common; compare runs that asked the same"
        )
    return [_compared(name, ours[name], theirs[name], seed) for name in both]


def _answers_in(run: Path) -> dict[str, list[ScoredAnswer]]:
    files = sorted(answers_folder(run).glob("*.jsonl"))
    if not files:
        raise UserError(f"{run} holds no answers of an evaluation; name its run folder")
    return {path.stem: read_answers(path) for path in files}


def _compared(
    name: str, first: list[ScoredAnswer], second: list[ScoredAnswer], seed: int
) -> Comparison:
    a, b = (benchmark_result(name, answers, seed).scores for answers in (first, second))
    asked_a, asked_b = _asked(first), _asked(second)
    same = [p for p in a if p in b and asked_a[p] == asked_b[p]]
    if not same:
        raise UserError(
            f"the two runs share no scored problem of {name}: their ids or questions differ; "
            "compare runs that asked the same rows with the same instructions and options_seed"
        )
    test = paired_test(
        [a[problem] for problem in same], [b[problem] for problem in same], seed=seed
    )
    return Comparison(name, test, len(asked_a.keys() | asked_b.keys()) - len(same))


def _asked(answers: list[ScoredAnswer]) -> Mapping[str, tuple[str, tuple[str, ...]]]:
    """Question and right answer by problem."""
    return {answer.problem: (answer.question, answer.gold) for answer in answers}


def comparison_text(first: str, second: str, comparisons: list[Comparison]) -> str:
    """The comparison in Markdown."""
    rows = [
        [
            each.name,
            str(each.test.problems),
            percent(each.test.first),
            percent(each.test.second),
            f"{100 * each.test.difference:+.1f}",
            f"{100 * each.test.interval.low:+.1f} to {100 * each.test.interval.high:+.1f}",
            f"{each.test.first_better} / {each.test.second_better}",
            f"{each.test.p_value:.3g} ({each.test.test})",
            str(each.left_out),
        ]
        for each in comparisons
    ]
    head = ["benchmark", "problems", "first", "second", "difference", "95 % interval"]
    head += ["better: first / second", "p", "left out"]
    return f"first: {first}\nsecond: {second}\n\n{table(head, rows)}\n"
