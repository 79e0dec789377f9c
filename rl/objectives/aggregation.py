"""What each token of an answer counts in the loss of a step."""

from collections.abc import Sequence

from configs.schema.loss import Aggregation


def token_weights(
    lengths: Sequence[Sequence[int]], aggregation: Aggregation, constant: float
) -> list[list[float]]:
    """For each answer what a token of it counts, times all tokens: sum(weight * loss) / tokens is

    - token_mean: the mean over all tokens (DAPO, arXiv:2503.14476, sec. 3.3);
    - sequence_mean: the mean over answers of the mean over their tokens (GRPO, arXiv:2402.03300);
    - group_mean: the mean over groups of the mean over their tokens;
    - constant: the sum over tokens by `constant` (Dr. GRPO, arXiv:2503.20783).

    In the means only what is learned from counts: answers that are left out are in none of them.

    Args:
        lengths: tokens of each answer, by groups.
        constant: answers asked for, those that are left out too, times the most tokens of one.

    Returns:
        A weight for each answer, by groups; 1 for all in token_mean.
    """
    tokens = sum(sum(group) for group in lengths)
    answers = sum(len(group) for group in lengths)

    def weight(group: Sequence[int], length: int) -> float:
        match aggregation:
            case "token_mean":
                return 1.0
            case "sequence_mean":
                return tokens / (answers * length)
            case "group_mean":
                return tokens / (len(lengths) * sum(group))
            case "constant":
                return tokens / constant

    return [[weight(group, length) for length in group] for group in lengths]
