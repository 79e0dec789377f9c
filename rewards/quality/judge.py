"""Grades by a served model that reads the chain beside our rubric (rubric.txt)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from configs.schema.quality import QualityJudgeConfig
from rewards.judges.contents import Content, followed_by, with_images
from rewards.judges.parallel import in_parallel
from rewards.judges.questions import Asked, Unjudged
from rewards.quality.chains import WRONG_ANSWER, GradedChain, Quality
from rl.data.images import BadImage

_RUBRIC = Path(__file__).with_name("rubric.txt").read_text("utf-8")


class _Reply(BaseModel):
    """The judge's reply."""

    model_config = ConfigDict(extra="forbid")
    reason: str
    agrees: bool
    grade: Literal[0, 1, 2, 3, 4, 5]


def grade_by_judge(chains: Iterable[GradedChain], config: QualityJudgeConfig) -> Iterator[Quality]:
    """The grade of each chain, in order, as they come; as many at a time as the recipe says.

    Raises:
        NoReply: the server refuses or is out of reach.
    """
    return in_parallel(Judge(config).quality, chains, config.parallel)


class Judge:
    """Asks one server; safe to use from many threads."""

    def __init__(self, config: QualityJudgeConfig) -> None:
        self._config = config
        self._asked = Asked.of(config)

    def quality(self, chain: GradedChain) -> Quality:
        """The judge's grade and reason.

        Raises:
            NoReply: the server refuses or is out of reach.
        """
        limit = self._config.max_chars
        if len(chain.text) > limit:
            return Quality(None, f"{len(chain.text)} characters, over judge.max_chars={limit}")
        try:
            content = self._content(chain)
        except (BadImage, OSError) as error:
            return Quality(None, f"image: {error}")
        try:
            reply = self._asked.ask(_RUBRIC, content, _Reply)
        except Unjudged as error:
            return Quality(None, str(error))
        grade = reply.grade if reply.agrees else min(reply.grade, WRONG_ANSWER)
        return Quality(grade, f"judge: {reply.reason}")

    def _content(self, chain: GradedChain) -> Content:
        problem = chain.problem
        images = problem.images if self._config.images else ()
        question = with_images(f"<question>\n{problem.question}\n</question>\n", images)
        return followed_by(
            question,
            f"<reference>\n{' or '.join(problem.gold)}\n</reference>\n"
            f"<solution>\n{chain.text}\n</solution>",
        )
