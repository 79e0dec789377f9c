"""What the dashboards show: panels by role, each a few questions to Prometheus."""

from typing import NamedTuple

from rl.monitoring.metrics import WORKER, Unit, metric


class Query(NamedTuple):
    """One question to Prometheus about the runs that are chosen; `legend` names its series."""

    legend: str
    expression: str
    metrics: tuple[str, ...]
    """What it asks for."""


class Panel(NamedTuple):
    """Curves over time."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]


def _newest(name: str, **wanted: str) -> Query:
    """A gauge by its labels; `wanted`: values that some must have."""
    labels = ["run", *(label for label in metric(name).labels if label not in wanted)]
    expression = f"max by ({', '.join(labels)}) ({_chosen(name, **wanted)})"
    return Query(_legend(name, labels), expression, (name,))


def _per_second(name: str, *labels: str) -> Query:
    """How fast a counter grows, summed up to `labels`."""
    expression = f"sum by ({', '.join(['run', *labels])}) (rate({_chosen(name)}[$__rate_interval]))"
    return Query(_legend(name, ["run", *labels]), expression, (name,))


def _quantile(share: float, name: str) -> Query:
    """What `share` of all that a histogram observed lies below, over all workers."""
    rates = f"sum by (le, run) (rate({_chosen(name, '_bucket')}[$__rate_interval]))"
    expression = f"histogram_quantile({share}, {rates})"
    return Query(f"{{{{run}}}} p{100 * share:.0f}", expression, (name,))


def _chosen(name: str, end: str = "", **wanted: str) -> str:
    conditions = ['run=~"$run"', *(f'{label}="{value}"' for label, value in wanted.items())]
    return f"{metric(name).series}{end}{{{', '.join(conditions)}}}"


def _legend(name: str, labels: list[str]) -> str:
    """The labels' values, and what the name says behind its role where the run is the only one."""
    shown = [f"{{{{{label}}}}}" for label in labels]
    told = metric(name).name.split("_", 2)[2].replace("_", " ")
    return " ".join(shown if len(shown) > 1 else [*shown, told])


def _panel(title: str, *names: str) -> Panel:
    """Gauges, and counters by the second, each by all of its labels."""
    queries = [
        _per_second(name, *metric(name).labels) if metric(name).kind == "counter" else _newest(name)
        for name in names
    ]
    return Panel(title, metric(names[0]).unit, tuple(queries))


def _since(name: str) -> Query:
    """Seconds since the Unix time in a gauge."""
    return Query("{{run}}", f"time() - max by (run) ({_chosen(name)})", (name,))


def _quantiles(title: str, name: str, *others: Query) -> Panel:
    return Panel(title, metric(name).unit, (*others, _quantile(0.5, name), _quantile(0.99, name)))


_GAP = _panel("Sampler against learner", "learner_logprob_gap", "learner_logprob_gap_bound")

DASHBOARDS: dict[str, tuple[Panel, ...]] = {
    "overview": (
        _panel("Steps", "run_step", "run_steps"),
        Panel("Since the newest step", "s", (_since("run_last_step_timestamp_seconds"),)),
        _panel("Reward", "reward_mean", "reward_accuracy"),
        _panel("Held-out problems", "run_held_out"),
        _panel("Seconds of a step", "run_step_seconds", "run_phase_seconds"),
        _GAP,
        Panel("Tokens written", "tokens/s", (_per_second("rollout_tokens"),)),
        _panel("Calls to actors under way", "run_open_calls"),
        _panel("Calls to actors answered, a second", "run_calls"),
        _panel("Actors replaced", "run_restarts"),
        _panel("Other figures of a step", "run_figure"),
    ),
    "rollout": (
        Panel("Tokens written", "tokens/s", (_per_second("rollout_tokens", WORKER),)),
        _panel("Tokens of a step by second of busy engines", "rollout_tokens_per_s"),
        _panel("Answers being written", "rollout_running_requests"),
        _panel("Answers that wait", "rollout_waiting_requests"),
        _panel("Key-value cache in use", "rollout_kv_cache_usage"),
        _panel("Prompt tokens found in the prefix cache", "rollout_prefix_hits"),
        _quantiles("Length of answers", "rollout_answer_tokens", _newest("rollout_mean_length")),
        _panel("Answers cut off", "rollout_truncated_share"),
        _panel("Policy version of engines", "rollout_policy_version"),
        _panel("Versions that answers lag behind", "rollout_staleness", "rollout_max_staleness"),
    ),
    "reward": (
        Panel("Verdicts a second", "", (_per_second("reward_verdicts", "reward", "cause"),)),
        _panel("Mean score by reward", "reward_score"),
        _panel("Reward", "reward_mean", "reward_accuracy"),
        _quantiles("From answer to score", "reward_seconds"),
        _panel("Verifications that wait", "reward_queue_depth"),
        _panel("Verifiers killed, and replaced", "reward_kills", "reward_restarts"),
        Panel("Calls under way", "", (_newest("run_open_calls", role="reward"),)),
    ),
    "learner": (
        _panel("Loss", "learner_loss"),
        _panel("KL from the reference", "learner_kl"),
        _panel("Tokens clipped", "learner_clip_share"),
        _panel("Entropy", "learner_entropy"),
        _panel("Gradient norm", "learner_grad_norm"),
        _panel("Learning rate", "learner_lr"),
        _GAP,
        _panel("Tokens read", "learner_tokens_per_s"),
        _panel("Model FLOPs utilisation", "learner_mfu"),
        _panel("Peak memory", "learner_memory_bytes"),
    ),
    "sync": (
        _panel("Seconds of a sync", "sync_seconds"),
        _panel("Bytes sent, a second", "sync_bytes"),
        _panel("Versions sent and read back", "sync_version", "sync_verified_version"),
        _panel("Policy version of engines", "rollout_policy_version"),
    ),
}
"""Panels by the names of the dashboards: one a role, and an overview."""
