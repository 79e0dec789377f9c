"""The `format` reward: the answer keeps the think template."""

from configs.schema.reward import ThinkingConfig
from rewards.completion import Completion
from rl.data.records import Problem, Verdict
from rl.data.thinking import template_fault


def format_reward(problem: Problem, completion: Completion, thinking: ThinkingConfig) -> Verdict:
    """1 when the answer keeps the think template (DeepSeek-R1, arXiv:2501.12948, sec. 2.2.2)."""
    fault = template_fault(completion.text, thinking)
    return Verdict(0.0, "wrong", fault) if fault else Verdict(1.0, "correct")
