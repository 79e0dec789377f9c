"""The `format` reward: the answer keeps the think template."""

from configs.schema.reward import ThinkingConfig
from rewards.completion import Completion
from rl.data.records import Problem, Verdict


def format_reward(problem: Problem, completion: Completion, thinking: ThinkingConfig) -> Verdict:
    """1 when the think tags stand exactly once, in order, around thoughts, with an answer after.

    Nothing but white space may come before the open tag. Where the prompt opens the thoughts, the
    open tag may not come again. Never raises (DeepSeek-R1, arXiv:2501.12948, section 2.2.2).
    """
    fault = _fault(completion.text, thinking)
    return Verdict(0.0, "wrong", fault) if fault else Verdict(1.0, "correct")


def _fault(text: str, thinking: ThinkingConfig) -> str:
    opens, closes = text.count(thinking.open_tag), text.count(thinking.close_tag)
    expected = 0 if thinking.prompt_opens else 1
    if opens != expected:
        return f"{thinking.open_tag} stands {opens} times, not {expected}"
    if closes != 1:
        return f"{thinking.close_tag} stands {closes} times, not once"
    head, _, answer = text.partition(thinking.close_tag)
    before, opened, thoughts = head.rpartition(thinking.open_tag)
    if expected and not opened:
        return f"{thinking.close_tag} stands before {thinking.open_tag}"
    if before.strip():
        return f"text before {thinking.open_tag}"
    if not thinking.allow_empty and not thoughts.strip():
        return "nothing between the tags"
    if not answer.strip():
        return f"no answer after {thinking.close_tag}"
    return ""
