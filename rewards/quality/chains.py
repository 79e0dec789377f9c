"""A chain of thought that is graded, and its grade (paper, section 2.2: RM: X -> {0..5})."""

from dataclasses import dataclass

from rl.data.records import Problem

WRONG_ANSWER = 1
"""The best grade of a chain with a wrong answer."""


@dataclass(frozen=True, slots=True)
class GradedChain:
    """A problem with a chain of thought that ends in an answer to it."""

    problem: Problem
    """Question, images, gold answers, and the columns that its reward needs."""
    text: str
    """The chain as the reward sees an answer: think tags included, the open tag left out where the
    prompt opens."""
    right: bool | None = None
    """Whether the rewards found its answer right; None: rules find out."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The grade of one chain."""

    grade: int | None
    """0 to 5; None: nobody could tell, which is no fault of the chain."""
    reason: str
    """Why, for a person."""
