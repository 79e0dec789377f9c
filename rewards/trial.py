"""Tries a recipe's rewards on one row, and looks at every row's gold, before the run starts."""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rewards.functions.custom import CustomTask, load_custom
from rewards.math.comparison import extract_comparison
from rewards.registry import INLINE, SANDBOXED, check_names, rule_of
from rewards.verifier.pool import VerifierPool
from rl.console.errors import UserError
from rl.console.progress import CONSOLE
from rl.data.records import Problem, Verdict
from rl.data.row_values import BadRow
from rl.data.thinking import think_then_answer


def try_rewards(config: RewardConfig, problem: Problem) -> dict[str, Verdict]:
    """Verdicts of the recipe's rewards, the judge left out, on `problem`'s gold as an answer.

    Raises:
        UserError: a name is unknown; a custom reward cannot be found, raises, hangs or returns
            neither a number nor a Verdict; or the row lacks what a reward needs.
    """
    check_names(config)
    completion = _gold_as_answer(config, problem)
    verdicts: dict[str, Verdict] = {}
    for name in config.weights:
        rule = rule_of(name, problem)
        if rule in INLINE:
            verdicts[name] = INLINE[rule](config)(problem, completion)
        elif rule in SANDBOXED:
            said = extract_comparison(problem, completion, config.math, config.thinking)
            if isinstance(said, Verdict):
                verdicts[name] = said
    verdicts |= _custom_verdicts(config, problem, completion)
    for name, verdict in verdicts.items():
        if not verdict.counts or verdict.cause == "timeout":
            raise UserError(
                f"reward {name!r} cannot score problem {problem.id!r}: {verdict.cause}: "
                f"{verdict.detail}; mend the reward or the row, or take {name!r} out of "
                "reward.weights"
            )
    return verdicts


def check_gold(config: RewardConfig, problem: Problem) -> None:
    """Check that the recipe's built-in rewards can use a row's gold answer and columns.

    Raises:
        BadRow: with what is wrong, for the list of rejected rows.
    """
    completion = _gold_as_answer(config, problem)
    for name in config.weights:
        if name in INLINE:
            said = INLINE[name](config)(problem, completion)
        elif name in SANDBOXED:
            said = extract_comparison(problem, completion, config.math, config.thinking)
        else:
            continue
        if isinstance(said, Verdict) and said.cause == "bad_gold":
            raise BadRow("bad_gold", f"reward {name!r}: {said.detail}")


def _gold_as_answer(config: RewardConfig, problem: Problem) -> Completion:
    boxed = f"\\boxed{{{problem.gold[0] if problem.gold else ''}}}"
    text = think_then_answer("a thought", boxed, config.thinking)
    return Completion(text, num_tokens=16, max_tokens=1024, finish_reason="stop")


def _code_of(function: Callable[..., Any]) -> str:
    """Of the file with a function, so that a log says which code scored."""
    file = inspect.getsourcefile(function)
    if file is None:
        return ""
    return f" ({file}, sha256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]})"


def _custom_verdicts(
    config: RewardConfig, problem: Problem, completion: Completion
) -> dict[str, Verdict]:
    """Verdicts of the user's own rewards, under the recipe's deadline."""
    custom = {name: config.custom[name] for name in config.weights if name in config.custom}
    if not custom:
        return {}
    for name, where in custom.items():
        function = load_custom(where)  # raises here, with the file's own traceback
        CONSOLE.print(f"reward {name} runs code of yours: {where}{_code_of(function)}")
    pool = VerifierPool(config)
    try:
        tasks = {
            name: CustomTask(where, problem, completion, share=name == config.accuracy)
            for name, where in custom.items()
        }
        tried = {name: pool.submit(task) for name, task in tasks.items()}
        return {name: future.result() for name, future in tried.items()}
    finally:
        pool.close()
