"""Which figures of a run are shown, where and how. A kind of job has one view."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Headline:
    """A metric on the console."""

    metric: str
    label: str
    form: str
    """A format specification of Python, such as `.3f`."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over the steps."""

    metric: str
    label: str
    evaluated: bool = False
    """Comes from evaluations, not from steps."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One axes of the plot."""

    title: str
    unit: str
    curves: tuple[Curve, ...]
    shares: bool = False
    """The values lie in [0, 1] and are shown as percentages."""
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """How a kind of job is shown."""

    headlines: tuple[Headline, ...]
    """Of a step."""
    evaluation: tuple[Headline, ...]
    """Of an evaluation."""
    panels: tuple[Panel, ...]


GRPO = View(
    headlines=(
        Headline("reward", "reward", ".3f"),
        Headline("accuracy", "right", ".1%"),
        Headline("think_share", "thinking", ".0%"),
        Headline("mean_length", "tokens", ".1f"),
        Headline("loss", "loss", "+.4f"),
        Headline("kl", "kl", ".4f"),
        Headline("grad_norm", "grad", ".2f"),
        Headline("logprob_gap", "gap", ".1e"),
        Headline("rollout_tokens_per_s", "tok/s", ",.0f"),
        Headline("seconds", "s", ".1f"),
    ),
    evaluation=(
        Headline("accuracy", "right", ".1%"),
        Headline("pass_at_k", "at least once", ".1%"),
        Headline("greedy_accuracy", "greedy", ".1%"),
        Headline("think_share", "thinking", ".0%"),
        Headline("mean_length", "tokens", ".1f"),
    ),
    panels=(
        Panel("Reward", "mean reward of an answer", (Curve("reward", "reward"),)),
        Panel(
            "Held-out accuracy",
            "right answers",
            (
                Curve("accuracy", "sampled", evaluated=True),
                Curve("greedy_accuracy", "greedy", evaluated=True),
            ),
            shares=True,
        ),
        Panel("Length", "tokens of an answer, mean", (Curve("mean_length", "length"),)),
        Panel(
            "Sampler against learner",
            "gap of logprobs, nats, mean",
            (Curve("logprob_gap", "gap"),),
            logarithmic=True,
        ),
    ),
)

SFT = View(
    headlines=(
        Headline("loss", "loss", ".4f"),
        Headline("grad_norm", "grad", ".2f"),
        Headline("lr", "lr", ".1e"),
        Headline("trained_tokens", "trained", ",.0f"),
        Headline("packs", "packs", ".0f"),
        Headline("features_kept", "features kept", ".0%"),
        Headline("tokens_per_s", "tok/s", ",.0f"),
        Headline("seconds", "s", ".1f"),
    ),
    evaluation=(
        Headline("loss", "loss", ".4f"),
        Headline("perplexity", "perplexity", ".3f"),
        Headline("best_loss", "best", ".4f"),
    ),
    panels=(
        Panel(
            "Loss",
            "nats a trained token, mean",
            (Curve("loss", "training"), Curve("loss", "held out", evaluated=True)),
        ),
        Panel("Learning rate", "of the next step", (Curve("lr", "learning rate"),)),
        Panel("Gradient", "global norm before clipping", (Curve("grad_norm", "norm"),)),
        Panel("Speed", "tokens a second", (Curve("tokens_per_s", "tokens"),)),
    ),
)
