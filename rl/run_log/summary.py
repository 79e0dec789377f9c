"""The end of a run in a dozen figures, taken from its own log, resumed or not."""

from pathlib import Path
from statistics import median
from typing import Any

from rl.storage.jsonl import read_lines

_BEFORE_AND_AFTER = ("accuracy", "greedy_accuracy", "mean_length", "think_share")


def summarise(folder: Path) -> dict[str, Any]:
    """What summary.json says of the run in `folder`.

    steps; grpo_seconds (all steps, evaluations left out); rollout_tokens_per_s (of busy engines,
    median of steps); max_logprob_gap (largest step mean, nats); skipped updates; and where held-out
    problems were asked, accuracy, greedy_accuracy, mean_length and think_share before and after.
    """
    steps = list(read_lines(folder / "metrics.jsonl"))
    evaluations = list(read_lines(folder / "evaluations.jsonl"))
    summary: dict[str, Any] = {
        "steps": len(steps),
        "grpo_seconds": sum(step["seconds"] for step in steps),
        "rollout_tokens_per_s": median([step["rollout_tokens_per_s"] for step in steps] or [0.0]),
        "max_logprob_gap": max((s.get("logprob_gap") or 0.0 for s in steps), default=0.0),
        "skipped_updates": sum(step.get("skipped") or 0.0 for step in steps),
    }
    if evaluations:
        first, last = evaluations[0], evaluations[-1]
        for name in _BEFORE_AND_AFTER:
            summary |= {f"{name}_before": first[name], f"{name}_after": last[name]}
    return summary


def summarise_sft(folder: Path) -> dict[str, Any]:
    """What summary.json says of the supervised run in `folder`.

    steps; chats; tokens and trained_tokens; sft_seconds (all steps, evaluations left out);
    tokens_per_s (median of steps); skipped updates; the last step's loss; and where there were
    held-out chats, their loss before and after, and the lowest with its step.
    """
    steps = list(read_lines(folder / "metrics.jsonl"))
    evaluations = list(read_lines(folder / "evaluations.jsonl"))
    summary: dict[str, Any] = {
        "steps": len(steps),
        "sft_seconds": sum(step["seconds"] for step in steps),
        "tokens_per_s": median([step["tokens_per_s"] for step in steps] or [0.0]),
        "skipped_updates": sum(step.get("skipped") or 0.0 for step in steps),
        "loss": steps[-1]["loss"] if steps else None,
    }
    for name in ("chats", "tokens", "trained_tokens"):
        summary[name] = sum(step[name] for step in steps)
    if evaluations:
        first, last = evaluations[0], evaluations[-1]
        summary |= {"held_out_loss_before": first["loss"], "held_out_loss_after": last["loss"]}
        summary |= {name: last[name] for name in ("best_loss", "best_step")}
    return summary
