"""The normal form of an answer, by which answers are counted for a majority vote."""

from configs.schema.reward import ThinkingConfig
from rewards.functions.choice import named_options
from rewards.functions.numeric import number
from rewards.text.answer import final_answer
from rewards.text.normalise import normalise
from rl.data.records import Problem

_LONGEST = 600


def vote_of(problem: Problem, text: str, thinking: ThinkingConfig) -> str | None:
    """What `text` votes for: option letters where the problem has options, else a number's value,
    else the final answer's normal form without spaces; None without a final answer."""
    if problem.fields.get("options") and (letters := named_options(problem, text, thinking)):
        return letters
    said = final_answer(text, thinking)
    if not said:
        return None
    value = number(said)
    if value is not None:
        return f"{value:.12g}"
    return "".join(normalise(said[:_LONGEST]).casefold().split())
