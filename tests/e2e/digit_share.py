"""A reward of a user's own, which even a policy that has learned next to nothing earns unevenly."""

from rewards.completion import Completion
from rl.data.records import Problem


def digit_share(problem: Problem, completion: Completion) -> float:
    """Digits among the characters of an answer, a share."""
    text = completion.text
    return sum(character.isdigit() for character in text) / max(1, len(text))
