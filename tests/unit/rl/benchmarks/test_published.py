"""Published benchmarks become problems that the right reward can score."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors.scoring.reward_worker import RewardWorker
from configs.jobs.evaluate import BenchmarkConfig, EvaluationRewardConfig
from rewards.completion import Completion
from rewards.trial import try_rewards
from rl.benchmarks.published import (
    BENCHMARKS,
    MATH_PROMPT,
    MMMU_SUBJECTS,
    PICTURE_CHOICE_PROMPT,
    PICTURE_PROMPT,
    Benchmark,
    Limits,
    open_benchmark,
)
from rl.console.errors import UserError
from rl.data.records import Problem
from rl.data.row_checks import TooManyRejected
from tests.unit.rl.benchmarks.hub_files import (
    AIME_2024,
    MATH_500,
    MATHVISTA,
    MMMU,
    gpqa_file,
    gpqa_row,
    mathvista_row,
    parquet,
    picture,
)

REWARD = EvaluationRewardConfig()


def opened(name: str, source: Path | str, seed: int = 0, **fields: Any) -> Benchmark:
    config = BenchmarkConfig.model_validate({"name": name, "source": str(source)} | fields)
    folder = Path(str(source).partition("{")[0]).parent / "run"
    return open_benchmark(config, Limits(lambda problem: 1, 10, folder), seed)


def cause(problem: Problem, said: str) -> str:
    """Why the benchmark's own reward gives `said` its score."""
    worker = RewardWorker(REWARD)
    completion = Completion(f"<think>hm</think>{said}", 5, 100, "stop")
    (score,) = asyncio.run(worker.score(problem, [completion]))
    worker.close()
    return score.verdicts["by_row"].cause


def test_math_500(tmp_path: Path) -> None:
    row = {
        "problem": "What is $1/2 + 1/2$?",
        "answer": "1",
        "subject": "Algebra",
        "level": 2,
        "unique_id": "test/algebra/1.json",
    }
    (problem,) = opened("math_500", parquet(tmp_path / "m.parquet", MATH_500, [row])).problems
    assert problem.id == "test/algebra/1.json" and problem.gold == ("1",)
    assert problem.question == f"What is $1/2 + 1/2$?\n{MATH_PROMPT}"
    assert problem.fields["subject"] == ["Algebra", "level 2"]
    assert cause(problem, "\\boxed{\\frac{2}{2}}") == "correct"


def test_aime_of_both_years(tmp_path: Path) -> None:
    row = {"id": 60, "problem": "How many?", "answer": "033", "url": "u", "year": "2024"}
    (problem,) = opened("aime_2024", parquet(tmp_path / "a.parquet", AIME_2024, [row])).problems
    assert (problem.id, problem.gold) == ("60", ("033",))
    assert cause(problem, "\\boxed{33}") == "correct" and cause(problem, "\\boxed{34}") == "wrong"
    later = tmp_path / "test.jsonl"
    later.write_text('{"problem": "How many?", "answer": "70", "id": "0"}\n')
    (problem,) = opened("aime_2025", later).problems
    assert (problem.id, problem.gold) == ("0", ("70",))


def test_gpqa_options_are_shuffled_by_the_seed_and_the_row_alone(tmp_path: Path) -> None:
    path = gpqa_file(tmp_path / "gpqa_diamond.csv", [gpqa_row(n) for n in range(40)])
    first = opened("gpqa_diamond", path).problems
    assert opened("gpqa_diamond", path).problems == first
    other = opened("gpqa_diamond", path, seed=1).problems
    assert [p.gold for p in other] != [p.gold for p in first]
    places = Counter(problem.gold[0] for problem in first)
    assert set(places) == set("ABCD") and max(places.values()) < 20
    few = gpqa_file(tmp_path / "few.csv", [gpqa_row(n) for n in (39, 7)])
    assert opened("gpqa_diamond", few).problems == [first[39], first[7]]
    for problem in first:
        place = "ABCD".index(problem.gold[0])
        assert problem.fields["options"][place] == f"right {problem.id.removeprefix('rec')}"
        assert f"({problem.gold[0]}) {problem.fields['options'][place]}\n" in problem.question
    assert cause(first[3], f"\\boxed{{{first[3].gold[0]}}}") == "correct"
    assert cause(first[3], "\\boxed{right 3}") == "correct"
    assert first[3].fields["subject"] == "Physics"


def mmmu_row(**fields: Any) -> dict[str, Any]:
    return {
        "id": "validation_Art_Theory_7",
        "question": "Which is older?",
        "options": "['this', 'that']",
        "answer": "B",
        "question_type": "multiple-choice",
        "image_1": picture(1),
    } | fields


def mmmu_problem(tmp_path: Path, **fields: Any) -> Problem:
    path = parquet(tmp_path / "mmmu.parquet", MMMU, [mmmu_row(**fields)])
    return opened("mmmu_val", path).problems[0]


def test_mmmu_marks_place_images_in_question_and_options(tmp_path: Path) -> None:
    problem = mmmu_problem(
        tmp_path,
        question="Is <image 2> older than <image 1>? Look at <image 2>.",
        options="['<image 3>', \"it isn't\", 'no']",
        **{f"image_{number}": picture(number) for number in (1, 2, 3, 5)},
    )
    assert problem.images == tuple(picture(number)["bytes"] for number in (5, 2, 1, 3))
    assert problem.question == (
        "Is <image> older than <image>? Look at (image 1 above).\n"
        f"(A) <image>\n(B) it isn't\n(C) no\n{PICTURE_CHOICE_PROMPT}"
    )
    assert problem.fields["subject"] == "Art_Theory" and problem.id == "validation_Art_Theory_7"
    assert cause(problem, "Answer: \\boxed{B}") == "correct"
    assert cause(problem, "Answer: \\boxed{(C)}") == "wrong"


def test_mmmu_open_questions_take_any_of_their_answers(tmp_path: Path) -> None:
    problem = mmmu_problem(
        tmp_path,
        question="How much? <image 1>",
        options="[]",
        answer="['24/7', '3.429']",
        question_type="open",
    )
    assert problem.gold == ("24/7", "3.429")
    assert problem.question == f"How much? <image>\n{PICTURE_PROMPT}"
    assert cause(problem, "\\boxed{\\frac{24}{7}}") == "correct"
    assert cause(problem, "\\boxed{3.5}") == "wrong"


def test_mmmu_rows_that_cannot_be_asked_stop_the_run_or_are_counted(tmp_path: Path) -> None:
    rows = [
        mmmu_row(),
        mmmu_row(id="validation_Art_1", question="<image 4>?"),
        mmmu_row(id="validation_Art_2", answer="?"),
    ]
    path = parquet(tmp_path / "mmmu.parquet", MMMU, rows)
    with pytest.raises(TooManyRejected, match="<image 4> is marked and image_4 empty"):
        opened("mmmu_val", path)
    benchmark = opened("mmmu_val", path, max_rejected_share=0.7)
    assert len(benchmark.problems) == 1
    assert benchmark.rejected == {"missing_image": 1, "no_answer": 1}


def test_mmmu_is_read_subject_by_subject(tmp_path: Path) -> None:
    for subject in MMMU_SUBJECTS:
        row = mmmu_row(id=f"validation_{subject}_1")
        parquet(tmp_path / f"{subject}.parquet", MMMU, [row])
    benchmark = opened("mmmu_val", f"{tmp_path}/{{subject}}.parquet")
    assert [problem.fields["subject"] for problem in benchmark.problems] == list(MMMU_SUBJECTS)
    assert len(set(MMMU_SUBJECTS)) == 30
    assert BENCHMARKS["mmmu_val"].source == "MMMU/MMMU:{subject}"


def test_mathvista_choices_are_told_by_letter_even_where_their_texts_are_letters(
    tmp_path: Path,
) -> None:
    row = mathvista_row(
        "1", question_type="multi_choice", answer_type="text", choices=["C", "A", "B"], answer="A"
    )
    path = parquet(tmp_path / "v.parquet", MATHVISTA, [row])
    (problem,) = opened("mathvista_testmini", path).problems
    assert problem.gold == ("B",) and "(B) A\n" in problem.question
    assert len(problem.images) == 1 and problem.fields["subject"] == ["geometry problem solving"]
    assert cause(problem, "\\boxed{B}") == "correct"


@pytest.mark.parametrize(
    ("kind", "precision", "gold", "right", "wrong"),
    [
        ("integer", None, "5", "5.0", "6"),
        ("float", 1.0, "1.2", "1.24", "1.26"),
        ("float", 2.0, "-0.33", "-0.3349", "-0.34"),
        ("list", None, "[2, 8]", "[2, 8]", "[8, 2]"),
        ("text", None, "Yes", "yes", "no"),
    ],
)
def test_mathvista_answers_are_scored_by_their_type(
    tmp_path: Path, kind: str, precision: float | None, gold: str, right: str, wrong: str
) -> None:
    row = mathvista_row("9", answer_type=kind, precision=precision, answer=gold, unit="cm")
    path = parquet(tmp_path / "v.parquet", MATHVISTA, [row])
    (problem,) = opened("mathvista_testmini", path).problems
    assert cause(problem, f"\\boxed{{{right}}}") == "correct"
    assert cause(problem, f"\\boxed{{{wrong}}}") == "wrong"
    lines = problem.question.splitlines()
    assert lines[:2] == ["How long is it?", "(Unit: cm)"] and lines[-1] == PICTURE_PROMPT
    assert ("decimal places" in problem.question) == (precision is not None)


def test_the_trial_before_a_run_follows_the_row(tmp_path: Path) -> None:
    path = gpqa_file(tmp_path / "g.csv", [gpqa_row(1)])
    (problem,) = opened("gpqa_diamond", path).problems
    assert try_rewards(REWARD, problem)["by_row"].cause == "correct"
    broken = Problem("p", "?", ("1",), fields={"reward": "judge"})
    with pytest.raises(UserError, match=r"`reward` is 'judge'; name one of"):
        try_rewards(REWARD, broken)
    assert cause(broken, "\\boxed{1}") == "bad_gold"


def test_instructions_of_one_s_own_replace_both(tmp_path: Path) -> None:
    path = gpqa_file(tmp_path / "g.csv", [gpqa_row(1)])
    (problem,) = opened("gpqa_diamond", path, choice_instruction="Letter?").problems
    assert problem.question.endswith("\nLetter?")
    (problem,) = opened("gpqa_diamond", path, choice_instruction="").problems
    assert problem.question.splitlines()[-1].startswith("(D) ")


def test_rows_in_other_columns_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    with pytest.raises(UserError, match="lacks the columns problem, subject, level, unique_id"):
        opened("math_500", path)


def test_rows_of_one_s_own_keep_their_columns_and_name_their_rule(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"q": "1+1?", "a": "2", "kind": "sums"}\n{"q": "0?", "a": "0", "kind": "x"}\n')
    columns = {"question_column": "q", "answer_column": "a", "image_column": None}
    config = BenchmarkConfig.model_validate(
        {
            "name": "own",
            "data": {"source": str(path), **columns},
            "subject_column": "kind",
            "rule": "numeric",
            "instruction": "Box it.",
        }
    )
    limits = Limits(lambda problem: 1, 10, tmp_path)
    first, second = open_benchmark(config, limits, 0).problems
    assert first.question == "1+1?\nBox it." and first.gold == ("2",)
    assert (first.fields["subject"], second.fields["subject"]) == ("sums", "x")
    assert cause(first, "\\boxed{2.00}") == "correct"
