"""Published benchmarks: where their rows lie, what makes problems of them, how they are asked."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from configs.jobs.evaluate import BenchmarkConfig
from configs.schema.data import SourceConfig
from rl.benchmarks import rows
from rl.benchmarks.evaluation import SUBJECT
from rl.benchmarks.rows import MakeProblem, Prompting, Row
from rl.console.errors import UserError
from rl.data.problems import ProblemSet
from rl.data.records import Problem
from rl.data.row_checks import check_rows
from rl.tables.sources import Source, open_source

MATH_PROMPT = "Please think step by step, and put your final answer within \\boxed{}."
LETTER_PROMPT = (
    "Please think step by step, and put the letter of the right option within \\boxed{}."
)
PICTURE_PROMPT = (
    "Answer the question above. The last line of your reply must read: Answer: \\boxed{FINAL "
    "ANSWER}. If you are not sure, give your best guess. Do not repeat the same steps again and "
    "again. Think step by step before you answer."
)
PICTURE_CHOICE_PROMPT = (
    "Answer the multiple-choice question above. The last line of your reply must read: Answer: "
    "\\boxed{LETTER}, with the letter of the right option. If you are not sure, give your best "
    "guess. Do not repeat the same steps again and again. Think step by step before you answer."
)
"""The four in our words, after the paper, section 4.1, and DeepSeek-R1's advice for texts."""

MMMU_SUBJECTS = [
    "Accounting",
    "Agriculture",
    "Architecture_and_Engineering",
    "Art",
    "Art_Theory",
    "Basic_Medical_Science",
    "Biology",
    "Chemistry",
    "Clinical_Medicine",
    "Computer_Science",
    "Design",
    "Diagnostics_and_Laboratory_Medicine",
    "Economics",
    "Electronics",
    "Energy_and_Power",
    "Finance",
    "Geography",
    "History",
    "Literature",
    "Manage",
    "Marketing",
    "Materials",
    "Math",
    "Mechanical_Engineering",
    "Music",
    "Pharmacy",
    "Physics",
    "Psychology",
    "Public_Health",
    "Sociology",
]


@dataclass(frozen=True, slots=True)
class Published:
    """A benchmark as the hub has it."""

    source: str
    """Hub name; `{subject}` stands for each subset."""
    split: str
    make: MakeProblem
    columns: tuple[str, ...]
    instruction: str = MATH_PROMPT
    choice_instruction: str = LETTER_PROMPT


_AIME = ("problem", "answer", "id")
BENCHMARKS: dict[str, Published] = {
    "math_500": Published(
        "HuggingFaceH4/MATH-500",
        "test",
        rows.math_500,
        ("problem", "answer", "subject", "level", "unique_id"),
    ),
    "aime_2024": Published("HuggingFaceH4/aime_2024", "train", rows.aime, _AIME),
    "aime_2025": Published("math-ai/aime25", "test", rows.aime, _AIME),
    "gpqa_diamond": Published(
        "Idavidrein/gpqa:gpqa_diamond",
        "train",
        rows.gpqa,
        ("Record ID", "Question", "Correct Answer", *rows.GPQA_WRONG, "High-level domain"),
    ),
    "mmmu_val": Published(
        "MMMU/MMMU:{subject}",
        "validation",
        rows.mmmu,
        ("id", "question", "options", "answer", "question_type", *rows.MMMU_IMAGES),
        PICTURE_PROMPT,
        PICTURE_CHOICE_PROMPT,
    ),
    "mathvista_testmini": Published(
        "AI4Math/MathVista",
        "testmini",
        rows.mathvista,
        (
            "pid",
            "question",
            "decoded_image",
            "choices",
            "unit",
            "precision",
            "answer",
            "question_type",
            "answer_type",
            "metadata",
        ),
        PICTURE_PROMPT,
        PICTURE_CHOICE_PROMPT,
    ),
}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark's problems, ready to be asked."""

    name: str
    problems: list[Problem]
    rejected: Counter[str]
    """Rows left out, by reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a problem may be, and where those that are more are written down."""

    measure: Callable[[Problem], int]
    """Length of a problem's prompt in tokens; ValueError rejects the row."""
    max_tokens: int
    folder: Path
    """Rows that cannot be used are written here, to `rejected_NAME.jsonl`."""


def open_benchmark(config: BenchmarkConfig, limits: Limits, options_seed: int) -> Benchmark:
    """All problems of a benchmark, each row checked.

    Raises:
        UserError: the rows cannot be read, lack a column, or too many of them cannot be used.
    """
    if config.data is not None:
        return _own_rows(config, limits)
    published = BENCHMARKS[config.name]
    source = config.source or published.source
    subjects = MMMU_SUBJECTS if "{subject}" in source else [""]
    opened = Benchmark(config.name, [], Counter())
    for subject in subjects:
        part = _published_rows(config, source.replace("{subject}", subject), limits, options_seed)
        opened.problems.extend(part.problems)
        opened.rejected.update(part.rejected)
    return opened


def _published_rows(
    config: BenchmarkConfig, name: str, limits: Limits, options_seed: int
) -> Benchmark:
    """The rows of one source."""
    published = BENCHMARKS[config.name]
    data = SourceConfig(
        source=name,
        split=config.split or published.split,
        max_rejected_share=config.max_rejected_share,
        limit=config.limit,
    )
    source = open_source(data.source, data.split)
    _check_columns(config.name, source, published)
    how = Prompting(
        _chosen(config.instruction, published.instruction),
        _chosen(config.choice_instruction, published.choice_instruction),
        options_seed,
        source.folders,
    )
    make = partial(_problem, published, how)
    source = source.select_columns(published.columns)
    label = name.replace("/", "_").replace(":", "_")
    rejected = limits.folder / f"rejected_{config.name}_{label}.jsonl"
    found = check_rows(source, data, make, limits.measure, limits.max_tokens, rejected)
    problems = ProblemSet(source, make, found)
    return Benchmark(config.name, problems.first(None), found.rejected)


def _problem(published: Published, how: Prompting, row: Row, number: int) -> Problem:
    return published.make(row, number, how)


def _own_rows(config: BenchmarkConfig, limits: Limits) -> Benchmark:
    """Rows in the user's own columns."""
    assert config.data is not None
    column = config.subject_column
    data = config.data
    if column is not None and column not in data.reward_columns:
        data = data.model_copy(update={"reward_columns": (*data.reward_columns, column)})
    problems = ProblemSet.open(
        data,
        measure=limits.measure,
        max_tokens=limits.max_tokens,
        rejected=limits.folder / f"rejected_{config.name}.jsonl",
    )
    return Benchmark(
        config.name, [_own(config, one) for one in problems.first(None)], problems.rejected
    )


def _own(config: BenchmarkConfig, problem: Problem) -> Problem:
    fields = dict(problem.fields)
    if config.subject_column is not None:
        fields[SUBJECT] = fields[config.subject_column]
    if config.rule is not None:
        fields["reward"] = config.rule
    said = f"\n{config.instruction}" if config.instruction else ""
    return replace(problem, question=problem.question + said, fields=fields)


def _chosen(wish: str | None, own: str) -> str:
    return own if wish is None else wish


def _check_columns(name: str, source: Source, published: Published) -> None:
    missing = [column for column in published.columns if column not in source.columns]
    if missing:
        raise UserError(
            f"benchmark {name} in {source.name!r} lacks the columns {', '.join(missing)} of "
            f"{published.source}; it has {', '.join(source.columns)}. Take rows as they were "
            "published, or name your own columns in data"
        )
