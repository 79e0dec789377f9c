"""Every metric of the project: actors record them, dashboards and alerts ask for them.

Names stay as they are once they are here: other people's dashboards and alerts use them.
"""

from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter", "histogram"]
Unit = Literal["", "bytes", "nats", "share", "s", "tokens", "tokens/s"]

PREFIX = "r1v_"
WORKER = "worker"
"""The label of the actor that a figure is of, such as `rollout-0`."""


class Metric(NamedTuple):
    """One metric; every series of it bears the run's name as its label `run`."""

    name: str
    kind: Kind
    unit: Unit
    description: str
    labels: tuple[str, ...]
    """Besides `run`."""
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets."""

    @property
    def series(self) -> str:
        """What Ray calls it in Prometheus; a histogram's series end in _bucket, _sum, _count."""
        return f"ray_{self.name}{'_total' if self.kind == 'counter' else ''}"

    @property
    def role(self) -> str:
        """Whose it is: run, rollout, reward, learner or sync."""
        return self.name.split("_")[1]


def _gauge(name: str, unit: Unit, told: str, *labels: str) -> Metric:
    return Metric(PREFIX + name, "gauge", unit, told, labels)


def _counter(name: str, unit: Unit, told: str, *labels: str) -> Metric:
    return Metric(PREFIX + name, "counter", unit, told, labels)


def _histogram(name: str, unit: Unit, told: str, bounds: tuple[float, ...]) -> Metric:
    return Metric(PREFIX + name, "histogram", unit, told, (WORKER,), bounds)


_LENGTHS = tuple(float(2**n) for n in range(3, 17))
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

METRICS = (
    _gauge("run_step", "", "steps done"),
    _gauge("run_steps", "", "steps of the whole run"),
    _gauge("run_last_step_timestamp_seconds", "s", "Unix time of the newest step's end"),
    _gauge("run_step_seconds", "s", "the newest step"),
    _gauge("run_phase_seconds", "s", "phases of the newest step", "phase"),
    _gauge("run_held_out", "", "figures of the newest evaluation", "figure"),
    _gauge("run_figure", "", "what else metrics.jsonl says of the newest step", "figure"),
    _gauge("run_open_calls", "", "calls under way to an actor", "role", WORKER),
    _counter("run_calls", "", "calls that an actor has answered", "role", WORKER),
    _gauge("run_restarts", "", "dead actors replaced so far", "role"),
    _counter("rollout_tokens", "tokens", "written by an engine", WORKER),
    _gauge("rollout_tokens_per_s", "tokens/s", "of busy engines in the newest step"),
    _gauge("rollout_running_requests", "", "answers that an engine is writing", WORKER),
    _gauge("rollout_waiting_requests", "", "answers that wait for an engine", WORKER),
    _gauge("rollout_kv_cache_usage", "share", "of an engine's key-value cache", WORKER),
    _gauge("rollout_prefix_hits", "share", "of prompt tokens found in the prefix cache", WORKER),
    _histogram("rollout_answer_tokens", "tokens", "length of answers", _LENGTHS),
    _gauge("rollout_mean_length", "tokens", "answers of the newest step, mean"),
    _gauge("rollout_truncated_share", "share", "answers of the newest step that were cut off"),
    _gauge("rollout_policy_version", "", "version of an engine's weights", WORKER),
    _gauge("rollout_staleness", "", "versions that the newest step's answers lag behind, mean"),
    _gauge("rollout_max_staleness", "", "versions that the newest step's answers lag behind"),
    _gauge("reward_mean", "", "reward of the newest step's answers, mean"),
    _gauge("reward_accuracy", "share", "mean score of the reward that counts as accuracy"),
    _gauge("reward_score", "", "mean score by reward, newest step", "reward"),
    _counter("reward_verdicts", "", "verdicts by reward and cause", WORKER, "reward", "cause"),
    _histogram("reward_seconds", "s", "from an answer's arrival to its score", _SECONDS),
    _gauge("reward_queue_depth", "", "verifications without a verdict", WORKER),
    _gauge("reward_kills", "", "verifiers killed at the deadline so far", WORKER),
    _gauge("reward_restarts", "", "verifiers replaced so far", WORKER),
    _gauge("learner_loss", "", "of the newest update"),
    _gauge("learner_kl", "nats", "from the reference, mean of tokens"),
    _gauge("learner_clip_share", "share", "tokens whose ratio was clipped"),
    _gauge("learner_entropy", "nats", "of the policy, mean of tokens"),
    _gauge("learner_grad_norm", "", "global gradient norm before clipping"),
    _gauge("learner_lr", "", "learning rate of the next update"),
    _gauge("learner_logprob_gap", "nats", "between sampler and learner, mean of tokens"),
    _gauge("learner_logprob_gap_bound", "nats", "sync.max_logprob_gap of the recipe"),
    _gauge("learner_tokens_per_s", "tokens/s", "read by all ranks in the newest update"),
    _gauge("learner_mfu", "share", "of the devices' arithmetic that the newest update used"),
    _gauge("learner_memory_bytes", "bytes", "peak of a rank's GPU, or of its process", WORKER),
    _gauge("sync_seconds", "s", "the newest weight sync, read-back included"),
    _counter("sync_bytes", "bytes", "weights that the learner sent"),
    _gauge("sync_version", "", "version of the learner's weights"),
    _gauge("sync_verified_version", "", "newest version that every engine read back"),
)

_BY_NAME = {metric.name: metric for metric in METRICS}

_FIGURES = {
    "steps_done": "run_step",
    "steps": "run_steps",
    "time": "run_last_step_timestamp_seconds",
    "seconds": "run_step_seconds",
    "rollout_tokens_per_s": "rollout_tokens_per_s",
    "mean_length": "rollout_mean_length",
    "truncated_share": "rollout_truncated_share",
    "staleness": "rollout_staleness",
    "max_staleness": "rollout_max_staleness",
    "reward": "reward_mean",
    "accuracy": "reward_accuracy",
    "loss": "learner_loss",
    "kl": "learner_kl",
    "clip_share": "learner_clip_share",
    "entropy": "learner_entropy",
    "grad_norm": "learner_grad_norm",
    "lr": "learner_lr",
    "logprob_gap": "learner_logprob_gap",
    "tokens_per_s": "learner_tokens_per_s",
    "mfu": "learner_mfu",
}
"""Figures of metrics.jsonl by the metrics that show them."""

_FAMILIES = {
    "seconds_": ("run_phase_seconds", "phase"),
    "score/": ("reward_score", "reward"),
    "evaluation/": ("run_held_out", "figure"),
    "": ("run_figure", "figure"),
}
"""How others begin, and the label that says which one it is."""


def metric(name: str) -> Metric:
    """The metric of that name, with or without its prefix. KeyError where there is none."""
    return _BY_NAME[PREFIX + name.removeprefix(PREFIX)]


def metric_of_figure(figure: str) -> tuple[str, dict[str, str]]:
    """The metric that shows a figure of a step, or of an `evaluation/`, and its labels."""
    if figure in _FIGURES:
        return _FIGURES[figure], {}
    begins = next(start for start in _FAMILIES if figure.startswith(start))
    name, label = _FAMILIES[begins]
    return name, {label: figure.removeprefix(begins)}
