"""Which metrics console, plot and page of a run show; one view for each kind of run."""

from collections.abc import Collection
from typing import NamedTuple


class Headline(NamedTuple):
    """A metric on the console; `form` is a format specification such as `.3f`."""

    metric: str
    label: str
    form: str


class Curve(NamedTuple):
    """A metric over the steps, or over the evaluations."""

    metric: str
    label: str
    evaluated: bool = False


class Panel(NamedTuple):
    """One axes of the plot; `shares` in [0, 1] are shown as percentages."""

    title: str
    unit: str
    curves: tuple[Curve, ...]
    shares: bool = False
    logarithmic: bool = False


class View(NamedTuple):
    """Headlines of a step, headlines of an evaluation, and panels of the plot."""

    headlines: tuple[Headline, ...]
    evaluation: tuple[Headline, ...]
    panels: tuple[Panel, ...]


GRPO = View(
    headlines=(
        Headline("reward", "reward", ".3f"),
        Headline("accuracy", "right", ".1%"),
        Headline("think_share", "thinking", ".0%"),
        Headline("useful_groups", "useful", ".0%"),
        Headline("mean_length", "tokens", ".1f"),
        Headline("truncated_share", "cut off", ".0%"),
        Headline("loss", "loss", "+.4f"),
        Headline("kl", "kl", ".4f"),
        Headline("grad_norm", "grad", ".2f"),
        Headline("logprob_gap", "gap", ".1e"),
        Headline("embedded_images", "images embedded", ".0%"),
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

MPO = View(
    headlines=(
        Headline("loss", "loss", ".4f"),
        Headline("accuracy", "preferred", ".1%"),
        Headline("margin", "margin", "+.3f"),
        Headline("delta", "delta", "+.3f"),
        Headline("grad_norm", "grad", ".2f"),
        Headline("lr", "lr", ".1e"),
        Headline("tokens_per_s", "tok/s", ",.0f"),
        Headline("seconds", "s", ".1f"),
    ),
    evaluation=(
        Headline("loss", "loss", ".4f"),
        Headline("accuracy", "preferred", ".1%"),
        Headline("margin", "margin", "+.3f"),
        Headline("best_loss", "best", ".4f"),
    ),
    panels=(
        Panel(
            "Loss",
            "of a pair, mean",
            (Curve("loss", "training"), Curve("loss", "held out", evaluated=True)),
        ),
        Panel(
            "Preference",
            "pairs whose chosen answer gained more",
            (Curve("accuracy", "training"), Curve("accuracy", "held out", evaluated=True)),
            shares=True,
        ),
        Panel(
            "Rewards",
            "beta log(pi / pi_0) of an answer, mean",
            (Curve("chosen_reward", "chosen"), Curve("rejected_reward", "rejected")),
        ),
        Panel("Gradient", "global norm before clipping", (Curve("grad_norm", "norm"),)),
    ),
)


def view_of(figures: Collection[str]) -> View:
    """The view of a run whose metrics.jsonl has `figures`."""
    if "reward" in figures:
        return GRPO
    return MPO if "margin" in figures else SFT
