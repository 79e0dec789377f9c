"""From an answer's verdicts to its score."""

from collections.abc import Mapping

from configs.schema.reward import RewardConfig
from rl.data.records import Score, Verdict


def weighted_score(verdicts: Mapping[str, Verdict], config: RewardConfig) -> Score:
    """reward = sum over rewards of weight * score.

    None when a verdict of weight above 0 does not count (`Verdict.counts`): such an answer is left
    out of its group rather than counted as wrong.
    """
    ordered = {name: verdicts[name] for name in config.weights}
    if not all(ordered[name].counts for name in config.counting):
        return Score(ordered, None)
    return Score(ordered, sum(config.weights[name] * ordered[name].score for name in ordered))
