"""A wrong chain rewritten by a served model so that it leads to the right answer (paper, 2.3)."""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from configs.schema.reward import ThinkingConfig
from rewards.judges.contents import followed_by, with_images
from rewards.judges.questions import Asked, Sampling
from rl.data.records import Problem
from rl.data.thinking import think_then_answer

ATTEMPT = "the policy's attempt"
"""Field of a problem that holds the wrong chain."""
_PROMPT = Path(__file__).with_name("rewrite.txt").read_text("utf-8")
_LONGEST_ATTEMPT = 60_000
"""Characters of an attempt that are shown; attempts that ran on for ever say nothing more."""
_EATEN = (
    (re.compile("\b"), r"\\b"),
    (re.compile("\f"), r"\\f"),
    (re.compile(r"\t(?=imes|ext|heta|an\b|au\b|o\b|frac|riangle)"), r"\\t"),
    (re.compile(r"\r(?=ight|ho\b|angle|m\b)"), r"\\r"),
)


class _Reply(BaseModel):
    """The rewritten chain."""

    model_config = ConfigDict(extra="forbid")
    reasoning: str
    final: str


def rewrite(
    asked: Asked, problem: Problem, thinking: ThinkingConfig, sampling: Sampling
) -> tuple[str, int]:
    """The chain in its template, and the number of tokens that the server counted.

    Args:
        problem: its question tells the right answer; its field `ATTEMPT` is the wrong chain.

    Raises:
        NoReply: the server refuses or is out of reach.
        Unjudged: it writes no chain for this one.
        BadImage: an image cannot be read.
    """
    attempt = str(problem.fields.get(ATTEMPT, ""))[:_LONGEST_ATTEMPT]
    question = with_images(f"<question>\n{problem.question}\n</question>\n", problem.images)
    content = followed_by(question, f"<attempt>\n{attempt}\n</attempt>")
    reply = asked.reply(_PROMPT, content, _Reply, sampling)
    thoughts, final = (latex_again(text) for text in (reply.said.reasoning, reply.said.final))
    for tag in (thinking.open_tag, thinking.close_tag):
        thoughts = thoughts.replace(tag, "")
    return think_then_answer(thoughts.strip(), final.strip(), thinking), reply.tokens


def latex_again(text: str) -> str:
    r"""Text in which a lone backslash was read as an escape of JSON: `\boxed` as a backspace."""
    for pattern, command in _EATEN:
        text = pattern.sub(command, text)
    return text
