"""summary.json: a run's figures, taken from its own log, resumed or not."""

from pathlib import Path
from statistics import median
from typing import Any

from rl.storage.jsonl import read_lines

_BEFORE_AND_AFTER = ("accuracy", "greedy_accuracy", "mean_length", "think_share")


def summarise(folder: Path) -> dict[str, Any]:
    """The summary of the GRPO run in `folder`.

    steps; skipped_updates; grpo_seconds (all steps, without evaluations); rollout_tokens_per_s (of
    busy engines, median of steps); max_logprob_gap (largest step mean, nats); flat_steps, those
    without a group whose rewards differ; and where held-out problems were evaluated, accuracy,
    greedy_accuracy, mean_length (tokens) and think_share, each before and after.
    """
    steps = list(read_lines(folder / "metrics.jsonl"))
    evaluations = list(read_lines(folder / "evaluations.jsonl"))
    summary = _basics(steps, "grpo_seconds", "rollout_tokens_per_s")
    summary["max_logprob_gap"] = max((s.get("logprob_gap") or 0.0 for s in steps), default=0.0)
    summary["flat_steps"] = sum(step["useful_groups"] == 0 for step in steps)
    if evaluations:
        first, last = evaluations[0], evaluations[-1]
        for name in _BEFORE_AND_AFTER:
            summary |= {f"{name}_before": first[name], f"{name}_after": last[name]}
    return summary


def summarise_sft(folder: Path) -> dict[str, Any]:
    """The summary of the supervised run in `folder`.

    steps; skipped_updates; sft_seconds (all steps, without evaluations); tokens_per_s (median of
    steps); the last step's loss (nats a trained token); chats, tokens and trained_tokens; and where
    there were held-out chats, their loss before and after, and the lowest with its step.
    """
    steps = list(read_lines(folder / "metrics.jsonl"))
    evaluations = list(read_lines(folder / "evaluations.jsonl"))
    summary = _basics(steps, "sft_seconds", "tokens_per_s")
    summary["loss"] = steps[-1]["loss"] if steps else None
    for name in ("chats", "tokens", "trained_tokens"):
        summary[name] = sum(step[name] for step in steps)
    if evaluations:
        first, last = evaluations[0], evaluations[-1]
        summary |= {"held_out_loss_before": first["loss"], "held_out_loss_after": last["loss"]}
        summary |= {name: last[name] for name in ("best_loss", "best_step")}
    return summary


def _basics(steps: list[dict[str, Any]], seconds: str, speed: str) -> dict[str, Any]:
    """Figures of both kinds of runs; `seconds` and `speed`: names of the total and the median."""
    return {
        "steps": len(steps),
        seconds: sum(step["seconds"] for step in steps),
        speed: median([step[speed] for step in steps] or [0.0]),
        "skipped_updates": sum(step.get("skipped") or 0.0 for step in steps),
    }
