"""Figures of a step's answers: how good, how long, how many think, what the verdicts were."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev

from configs.schema.reward import RewardConfig
from rl.data.records import CAUSES, Answer, Problem, Score, ScoredGroup
from rl.data.thinking import has_thoughts


def accuracy(scores: Iterable[Score], config: RewardConfig) -> float:
    """Mean score of the reward that the recipe calls accuracy, over verdicts that count; NaN
    without any."""
    return _mean_score(scores, config.accuracy)


def _mean_score(scores: Iterable[Score], reward: str) -> float:
    verdicts = [score.verdicts[reward] for score in scores]
    counted = [verdict.score for verdict in verdicts if verdict.counts]
    return fmean(counted) if counted else float("nan")


def answer_metrics(groups: Sequence[ScoredGroup], config: RewardConfig) -> dict[str, float]:
    """Figures of answers, whether trained on or held out: reward, accuracy, think_share,
    score/REWARD, each reward's mean,
    mean_length and max_length in tokens, truncated_share, unscored_share, verdicts/CAUSE shares."""
    answers: list[Answer] = [answer for g in groups for answer in g.group.answers]
    scores: list[Score] = [score for g in groups for score in g.scores]
    rewards = [score.reward for score in scores if score.reward is not None]
    causes = Counter(score.verdicts[config.accuracy].cause for score in scores)
    lengths = [len(answer.token_ids) for answer in answers]
    return {
        "reward": fmean(rewards) if rewards else float("nan"),
        "reward_std": pstdev(rewards) if rewards else float("nan"),
        "accuracy": accuracy(scores, config),
        **{f"score/{reward}": _mean_score(scores, reward) for reward in config.weights},
        "think_share": fmean(has_thoughts(answer.text, config.thinking) for answer in answers),
        "mean_length": fmean(lengths),
        "max_length": float(max(lengths)),
        "truncated_share": fmean(answer.finish_reason == "length" for answer in answers),
        "unscored_share": 1.0 - len(rewards) / len(scores),
        **{f"verdicts/{cause}": causes[cause] / len(scores) for cause in CAUSES},
    }


def right_shares(
    groups: Iterable[ScoredGroup], config: RewardConfig
) -> list[tuple[Problem, float]]:
    """Each group's problem with its accuracy."""
    return [(g.group.problem, accuracy(g.scores, config)) for g in groups]


_OF_EACH_SOURCE = ("reward", "accuracy", "mean_length", "truncated_share")


def source_metrics(groups: Sequence[ScoredGroup], config: RewardConfig) -> dict[str, float]:
    """Of a mix, each source's problems/NAME, and reward/NAME, accuracy/NAME, mean_length/NAME and
    truncated_share/NAME of its answers; nothing where there is one source."""
    by_source: dict[str, list[ScoredGroup]] = {}
    for scored in groups:
        if scored.group.problem.source:
            by_source.setdefault(scored.group.problem.source, []).append(scored)
    figures: dict[str, float] = {}
    for name, own in sorted(by_source.items()):
        measured = answer_metrics(own, config)
        figures[f"problems/{name}"] = float(len(own))
        figures |= {f"{figure}/{name}": measured[figure] for figure in _OF_EACH_SOURCE}
    return figures


def image_metrics(groups: Iterable[ScoredGroup]) -> dict[str, float]:
    """embedded_images, the share of the groups' images that engines were given as embeddings;
    nothing where they are given pixels in any case, or there are no images."""
    told = [g.group for g in groups if g.group.embedded_images is not None]
    images = sum(len(group.problem.images) for group in told)
    embedded = sum(group.embedded_images or 0 for group in told)
    return {"embedded_images": embedded / images} if images else {}


def staleness_metrics(groups: Sequence[ScoredGroup], version: int) -> dict[str, float]:
    """How many versions the answers lag behind the learner's: staleness and max_staleness, mean and
    maximum by each answer's oldest token, and token_staleness, the mean over all tokens."""
    answers = [answer for g in groups for answer in g.group.answers]
    lags = [version - answer.version for answer in answers]
    tokens = [len(answer.token_ids) for answer in answers]
    written_by = fmean([answer.token_versions for answer in answers], tokens)
    return {
        "staleness": fmean(lags),
        "max_staleness": float(max(lags)),
        "token_staleness": version - written_by,
    }
