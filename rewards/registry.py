"""Names of the rewards that a recipe may weigh, and how each kind is run."""

from collections.abc import Callable
from functools import partial

from configs.loading.suggest import closest_match
from configs.schema.reward import RewardConfig
from rewards.completion import Reward
from rewards.functions.choice import choice_reward
from rewards.functions.exact import exact_reward
from rewards.functions.format import format_reward
from rewards.functions.iou import iou_reward
from rewards.functions.length import length_reward
from rewards.functions.numeric import numeric_reward
from rewards.functions.repetition import repetition_reward
from rl.console.errors import UserError
from rl.data.records import Problem

INLINE: dict[str, Callable[[RewardConfig], Reward]] = {
    "format": lambda config: partial(format_reward, thinking=config.thinking),
    "choice": lambda config: partial(choice_reward, thinking=config.thinking),
    "exact": lambda config: partial(exact_reward, thinking=config.thinking),
    "numeric": lambda config: partial(numeric_reward, config=config),
    "iou": lambda config: partial(iou_reward, thinking=config.thinking),
    "length": lambda config: partial(length_reward, overlong_tokens=config.overlong_tokens),
    "repetition": lambda config: partial(repetition_reward, ngram=config.repetition_ngram),
}
"""Rewards in bounded time, run in the reward actor itself: the function with its options set."""

SANDBOXED = ("math",)
"""Rewards run in verifier processes, which are killed at a deadline, like the user's own."""

REMOTE = ("judge",)
"""Rewards that ask a server."""

BY_ROW = "by_row"
"""The built-in rule that each row names in its column `reward`; math where it names none."""

NAMES = (*INLINE, *SANDBOXED, *REMOTE, BY_ROW)


def rule_of(name: str, problem: Problem) -> str:
    """The reward that scores `problem` where the recipe says `name`.

    Raises:
        UserError: the row names a reward that is no built-in rule.
    """
    if name != BY_ROW:
        return name
    named = str(problem.fields.get("reward") or "math")
    if named not in (*INLINE, *SANDBOXED):
        raise UserError(
            f"column `reward` is {named!r}; name one of {', '.join((*INLINE, *SANDBOXED))}"
        )
    return named


def check_names(config: RewardConfig) -> None:
    """Check that every reward named in the recipe exists and none of the user's hides another.

    Raises:
        UserError: with the name, and the nearest known one.
    """
    known = (*NAMES, *config.custom)
    for name in config.custom:
        if name in NAMES:
            raise UserError(f"custom reward {name!r} has a built-in reward's name; rename it")
    second = config.judge.second_opinion_on if config.judge else ()
    for name in (*config.weights, *second):
        if name not in known:
            close = closest_match(name, known)
            hint = f"did you mean {close!r}?" if close else "name it in reward.custom"
            raise UserError(f"there is no reward {name!r}; {hint} (known: {', '.join(known)})")
