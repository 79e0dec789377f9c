"""Lines of samples.jsonl: answers of a GRPO run, chats of a supervised run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rl.data.records import Answer, Chat, LearnerTokens, Pair, ScoredGroup
from rl.storage.jsonl import json_number

KeepImages = Callable[[Sequence[bytes | str]], list[str]]
"""From images to their names in the run's folder, where bytes are written once."""
TokenTexts = Callable[[Sequence[int]], Sequence[str]]
"""From the ids of an answer's tokens to the text of each."""


class Logged(Protocol):
    """Something that a step learned from, as lines of samples.jsonl."""

    def lines(self, keep: KeepImages) -> Iterator[dict[str, Any]]:
        """A line a sample, without its step."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedGroup:
    """A scored group with each answer's advantage and what the learner says of it."""

    scored: ScoredGroup
    advantages: tuple[float | None, ...]
    """None for an answer that was left out of the update."""
    learned: tuple[LearnerTokens | None, ...]
    """What the learner says of each answer's tokens; None for one that was left out."""
    token_texts: tuple[Sequence[str] | None, ...]
    """Text of each answer's tokens; None: its tokens are not told."""

    def lines(self, keep: KeepImages) -> Iterator[dict[str, Any]]:
        """A line an answer."""
        problem = self.scored.group.problem
        asked = {
            "problem": problem.id,
            "question": problem.question,
            "images": keep(problem.images),
            "gold": list(problem.gold),
            "prompt_tokens": len(self.scored.group.prompt_ids),
        }
        answers = self.scored.group.answers
        scores = self.scored.scores
        parts = zip(answers, scores, self.advantages, self.learned, self.token_texts, strict=True)
        for place, (answer, score, advantage, learned, texts) in enumerate(parts):
            line = {
                **asked,
                "sample": place,
                "answer": answer.text,
                "finish_reason": answer.finish_reason,
                "tokens": len(answer.token_ids),
                "version": answer.version,
                "later_versions": [list(part) for part in answer.later],
                "reward": json_number(score.reward),
                "verdicts": {
                    name: {"score": json_number(v.score), "cause": v.cause, "detail": v.detail}
                    for name, v in score.verdicts.items()
                },
                "advantage": json_number(advantage),
                "logprob_gap": json_number(learned.logprob_gap) if learned else None,
            }
            if texts is not None:
                line["by_token"] = _by_token(answer, texts, learned)
            yield line


def _by_token(
    answer: Answer, texts: Sequence[str], learned: LearnerTokens | None
) -> dict[str, Any]:
    """text, and in nats logprob (the sampler's), gap and entropy (the learner's) of each token."""
    told: dict[str, Any] = {"text": list(texts), "logprob": _short(answer.logprobs)}
    if learned is not None:
        told |= {"gap": _short(learned.gaps), "entropy": _short(learned.entropies)}
    return told


def _short(values: Iterable[float]) -> list[float | None]:
    """Three digits of each, since there are many; None where it is not finite."""
    return [json_number(float(f"{value:.3g}")) for value in values]


@dataclass(frozen=True, slots=True)
class LoggedChat:
    """A chat with the policy's loss on it."""

    chat: Chat
    tokens: int
    """Image tokens included."""
    trained_tokens: int
    loss: float
    """Mean over the trained tokens, nats."""
    least_likely: tuple[tuple[str, float], ...]
    """The trained tokens of lowest probability, with their probabilities."""

    def lines(self, keep: KeepImages) -> Iterator[dict[str, Any]]:
        """One line."""
        yield {
            "chat": self.chat.id,
            "turns": [{"role": turn.role, "text": turn.text} for turn in self.chat.turns],
            "images": keep(self.chat.images),
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "loss": json_number(self.loss),
            "least_likely": [
                {"token": token, "probability": json_number(probability)}
                for token, probability in self.least_likely
            ],
        }


@dataclass(frozen=True, slots=True)
class LoggedPair:
    """A preference pair with what the policy thinks of it."""

    pair: Pair
    chosen_reward: float
    """r = beta log(pi / pi_0) of the chosen answer, before the step."""
    rejected_reward: float
    """Of the rejected answer."""

    def lines(self, keep: KeepImages) -> Iterator[dict[str, Any]]:
        """One line."""
        *prompt, chosen = self.pair.chosen.turns
        yield {
            "pair": self.pair.id,
            "prompt": [{"role": turn.role, "text": turn.text} for turn in prompt],
            "images": keep(self.pair.chosen.images),
            "chosen": chosen.text,
            "rejected": self.pair.rejected.turns[-1].text,
            "chosen_reward": json_number(self.chosen_reward),
            "rejected_reward": json_number(self.rejected_reward),
        }
