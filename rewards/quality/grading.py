"""The grade of a chain of thought: RM(x) in {0, ..., 5} (paper, section 2.2)."""

import math
from dataclasses import dataclass

from configs.schema.reward import ThinkingConfig
from rewards.agreement.answers import value_of
from rewards.quality.steps import check_steps
from rewards.text.answer import final_answer
from rewards.text.normalise import normalise
from rl.data.thinking import has_thoughts


@dataclass(frozen=True, slots=True)
class GradedChain:
    """A chain of thought as graders see it."""

    question: str
    gold: tuple[str, ...]
    """Forms of the right answer."""
    text: str
    """Thoughts in their tags and the final answer."""
    right: bool
    """The rewards found its answer right."""
    images: tuple[str, ...] = ()
    """Paths."""


@dataclass(frozen=True, slots=True)
class Grade:
    """What a chain is worth."""

    quality: int
    """0 to 5."""
    reason: str


def rule_grade(chain: GradedChain, thinking: ThinkingConfig) -> Grade:
    """A grade by rules: 0 without an answer, 1 where it is wrong, and where it is right 2 points
    and one each for thoughts in their template, for steps that can be checked and all hold, and
    for a last step that yields the answer.

    The paper's reward model is not published; the rules are ours.
    """
    said = final_answer(chain.text, thinking)
    if not said:
        return Grade(0, "no final answer")
    if not chain.right:
        return Grade(1, "the answer is wrong")
    steps = check_steps(chain.text)
    answer = value_of(normalise(said))
    missing = {
        "no thoughts in their tags": not has_thoughts(chain.text, thinking),
        "no step that can be checked": not steps.checked,
        f"wrong steps: {'; '.join(steps.wrong[:3])}": bool(steps.wrong),
        "the answer is not what the last step yields": not _same(steps.last, answer),
    }
    told = [fault for fault, there in missing.items() if there]
    points = (missing["no thoughts in their tags"], not steps.checked or bool(steps.wrong))
    lost = sum(points) + missing["the answer is not what the last step yields"]
    return Grade(5 - lost, "; ".join(told) or "right, and every step holds")


def _same(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, rel_tol=1e-6)
