"""Scores of questions by a served model, as in the paper (section 2.3); clarity by pixels.

Two questions are put about each problem: about its text, without images, so that what the text
lacks shows (QDAM's ablation); and, where it has images, about how the two belong together (VTIA).
"""

from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from configs.jobs.distill import ScoringJudgeConfig
from rewards.judges.contents import with_images
from rewards.judges.parallel import in_parallel
from rewards.judges.questions import Asked, Unjudged
from rl.console.errors import UserError
from rl.console.progress import phase
from rl.data.images import BadImage
from rl.data.records import Problem
from rl.distillation.chain_length import QueryScores, pattern_score
from rl.distillation.passes import ProblemPasses
from rl.storage.journal import Journal

_PASS = "judged"
_HERE = Path(__file__).parent
_QUESTION = (_HERE / "judge_question.txt").read_text("utf-8")
_IMAGE = (_HERE / "judge_image.txt").read_text("utf-8")

_Grade = Annotated[int, Field(ge=1, le=5)]


class _OfText(BaseModel):
    """What the judge says of a question's text."""

    model_config = ConfigDict(extra="forbid")
    coherence: _Grade
    knowledge: _Grade
    inference: _Grade
    needs_image: _Grade


class _OfImages(BaseModel):
    """What the judge says of a question beside its images."""

    model_config = ConfigDict(extra="forbid")
    relevance: _Grade
    why_or_how: bool
    spatial: bool
    domain_terms: bool
    what_or_where: bool
    names_object: bool
    text_alone: bool


def judge_problems(passes: ProblemPasses, config: ScoringJudgeConfig) -> Journal:
    """Ask the judge about every problem that it was not asked about yet; no engine is needed.

    Raises:
        NoReply: the judge refuses or is out of reach; what it said so far is kept.
        UserError: too many problems get no judgement.
    """
    journal = passes.journal(_PASS)
    left = [index for index in range(len(passes.problems)) if index not in journal.done]
    asked = Asked.of(config)

    def judged(numbered: tuple[int, Problem]) -> tuple[int, dict[str, Any]]:
        index, problem = numbered
        try:
            return index, {"id": problem.id, **_judgement(problem, asked)}
        except (Unjudged, BadImage, OSError) as error:
            return index, {"id": problem.id, "fault": str(error)}

    try:
        with phase(_PASS, len(left)) as work:
            for index, line in in_parallel(judged, passes.read(left), config.parallel):
                journal.write(index, line)
                work.advance()
    finally:
        journal.close()
    _check_share(journal, config)
    return journal


def judge_scores(
    passes: ProblemPasses, config: ScoringJudgeConfig, clarity_N: NDArray[np.float64]
) -> list[QueryScores]:
    """Each question's raw scores by the judge; where it has none, the mean of all others.

    Args:
        clarity_N: of each problem's images, in [0, 1]; NaN: it has none.

    Raises: as `judge_problems`.
    """
    journal = judge_problems(passes, config)
    table = np.full((len(passes.problems), 3), np.nan)
    for index, line in journal.lines():
        if "fault" not in line:
            clear = None if np.isnan(clarity_N[index]) else float(clarity_N[index])
            table[index] = _scores(line, clear)
    mean = np.nanmean(table, axis=0)
    return [QueryScores(*map(float, np.where(np.isnan(row), mean, row))) for row in table]


def _judgement(problem: Problem, asked: Asked) -> dict[str, Any]:
    question = f"<question>\n{problem.question}\n</question>"
    of_text = asked.ask(_QUESTION, question, _OfText)
    if not problem.images:
        return of_text.model_dump()
    of_images = asked.ask(_IMAGE, with_images(question, problem.images), _OfImages)
    return of_text.model_dump() | of_images.model_dump()


def _scores(line: dict[str, Any], clarity: float | None) -> tuple[float, float, float]:
    """Vision, text and integration of one judgement; vision and integration are 0 without images.

    Sv = mean(clarity, mean(needs_image, relevance)); St = mean(coherence, knowledge, inference),
    grades as (grade - 1) / 4; SI by the patterns found.
    """
    share = {name: (value - 1) / 4 for name, value in line.items() if type(value) is int}
    text = fmean(share[name] for name in ("coherence", "knowledge", "inference"))
    if clarity is None:
        return 0.0, text, 0.0
    vision = fmean((clarity, fmean((share["needs_image"], share["relevance"]))))
    high = [line[name] for name in ("why_or_how", "spatial", "domain_terms")]
    low = [line[name] for name in ("what_or_where", "names_object", "text_alone")]
    return vision, text, pattern_score(high, low)


def _check_share(journal: Journal, config: ScoringJudgeConfig) -> None:
    faults = [line["fault"] for _, line in journal.lines() if "fault" in line]
    if len(faults) > config.max_unjudged_share * len(journal.done):
        raise UserError(
            f"{len(faults):,} of {len(journal.done):,} questions got no judgement, over "
            f"scoring.judge.max_unjudged_share={config.max_unjudged_share:g}; mend what is wrong "
            f"and start anew (replies are kept), or raise it; the first: {faults[0]}"
        )
