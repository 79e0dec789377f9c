"""What flows through a run: problems, answers, verdicts, groups. Plain frozen data.

An image is carried once, as encoded bytes or as a path, inside its problem; pixels are made where
they are used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.schema.rollout import SamplingConfig

Cause = Literal["correct", "wrong", "no_answer", "unparsable", "bad_gold", "timeout", "crash"]
CAUSES: tuple[Cause, ...] = (
    "correct",
    "wrong",
    "no_answer",
    "unparsable",
    "bad_gold",
    "timeout",
    "crash",
)
FinishReason = Literal["stop", "length"]


Experts = NDArray[np.integer[Any]]
"""uint8 or uint16 [T, layers, K]: the K experts that a layer of the sampler sent each token to.
Layers without experts have zeros."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its images and the answer that counts as right."""

    id: str
    """Unique in its data set, stable from run to run."""
    question: str
    """Text; `<image>` marks an image's place, images without a mark come first."""
    gold: tuple[str, ...]
    """Accepted forms of the right answer, at least one."""
    images: tuple[bytes | str, ...] = ()
    """Encoded image bytes, or absolute paths."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further columns that the recipe names for its rewards (options, boxes)."""
    context: "tuple[Turn, ...]" = ()
    """Turns before the question: a system message of the row's own, and a conversation so far."""
    source: str = ""
    """The name of its source among several; empty where there is one."""

    def without_images(self) -> "Problem":
        """The same problem for those who read text only, and on messages where a ref goes along."""
        return replace(self, images=())


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    text: str
    """`<image>` marks an image's place."""
    trained: bool = True
    """Of an assistant's turn: whether it is learned, or context only."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to learn from; its last turn is an assistant's that is learned."""

    id: str
    """Unique in its data set, stable from run to run."""
    turns: tuple[Turn, ...]
    images: tuple[bytes | str, ...] = ()
    """Encoded image bytes, or absolute paths: as many as the turns have marks, in their order."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, of which one is preferred."""

    chosen: Chat
    rejected: Chat

    @property
    def id(self) -> str:
        """Unique in its data set, stable from run to run."""
        return self.chosen.id

    @property
    def images(self) -> tuple[bytes | str, ...]:
        """Both chats', since each is read by itself."""
        return self.chosen.images + self.rejected.images


@dataclass(frozen=True, slots=True)
class TokenisedChat:
    """A chat as the model reads it."""

    ids: tuple[int, ...]
    """Token ids, image tokens expanded."""
    loss_mask: tuple[bool, ...]
    """For each token, whether it is what the model has to say itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer, as token ids; nothing is ever tokenised again."""

    token_ids: tuple[int, ...]
    """Sampled ids, the end-of-sequence token included when it was sampled; -1 for each token where
    a server tells their number alone."""
    logprobs: tuple[float, ...]
    """Natural-log probability that the sampler gave each of `token_ids`."""
    text: str
    """The ids decoded, special tokens left out."""
    finish_reason: FinishReason
    version: int
    """Policy version that wrote its first token, the oldest: the number of updates behind it."""
    later: tuple[tuple[int, int], ...] = ()
    """(version, tokens before it) of each newer policy that went on with it behind a sync."""
    experts: Experts | None = None
    """Of all tokens but the last, which nothing was read behind; None: nobody asked."""

    @property
    def token_versions(self) -> float:
        """Mean version over its tokens, in updates."""
        parts = [(self.version, 0), *self.later, (0, len(self.token_ids))]
        written = [version * (end - start) for (version, start), (_, end) in pairwise(parts)]
        return sum(written) / len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Group:
    """All answers to one problem."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    """The prompt as the engine saw it, image tokens expanded."""
    answers: tuple[Answer, ...]
    embedded_images: int | None = None
    """Images that the engine was given as embeddings, without a use for its tower; None: it is
    given pixels in any case."""
    prompt_experts: Experts | None = None
    """Of the prompt's tokens, as the first answer was read behind them; None: nobody asked."""

    @property
    def oldest_version(self) -> int:
        """Version of the oldest token."""
        return min(answer.version for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one reward says of one answer."""

    score: float
    """In [0, 1]; any number of a user's own reward that is not the recipe's accuracy."""
    cause: Cause
    detail: str = ""
    """Why, for a person: the parsed forms, the error text, the deadline."""
    gold_side: bool = False
    """True when a timeout struck while the gold answer was read."""

    @property
    def counts(self) -> bool:
        """False when the data or the system failed, so that the score is no news of the policy."""
        if self.cause == "timeout":
            return not self.gold_side
        return self.cause not in ("bad_gold", "crash")


@dataclass(frozen=True, slots=True)
class Score:
    """The weighted reward of one answer and the verdicts behind it."""

    verdicts: Mapping[str, Verdict]
    """By reward name, in the recipe's order."""
    reward: float | None
    """Weighted sum of the scores; None when a verdict says nothing of the policy."""


@dataclass(frozen=True, slots=True)
class TeacherTokens:
    """A teacher's probabilities at each of an answer's T tokens, at the sampling temperature."""

    logprobs: NDArray[np.float32]
    """float32 [T] nats, of the sampled tokens."""
    top_ids: NDArray[np.int32]
    """int32 [T, K]: its likeliest tokens; K may be 0."""
    top_logprobs: NDArray[np.float32]
    """float32 [T, K] nats, of those."""


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group with its scores, ready for advantages."""

    group: Group
    scores: tuple[Score, ...]
    """One for each answer, in order."""
    reference_logprobs: tuple[tuple[float, ...], ...] | None = None
    """Logprobs of each answer's tokens under the reference policy; None when KL is off."""
    teacher: tuple[TeacherTokens, ...] | None = None
    """A teacher's probabilities for each answer; None without a teacher."""


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """How to answer one problem."""

    count: int
    """Answers."""
    temperature: float
    """0: the likeliest token each time."""
    max_new_tokens: int
    seed: int
    """Mixed with the problem's id, so that the same question asked again draws the same numbers."""
    top_p: float = 1.0
    """Smallest share of probability that is sampled from."""
    repetition_penalty: float = 1.0
    """vLLM's: logits of tokens that were seen are divided by it where positive, else multiplied."""
    top_k: int | None = None
    """Most tokens that are sampled from; None: all."""
    min_p: float = 0.0
    """Least probability that is sampled from, as a share of the likeliest token's."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    experts: bool = False
    """Ask for each token's experts, of an engine that tells them."""

    @classmethod
    def drawn(
        cls, sampling: SamplingConfig, *, count: int, max_new_tokens: int, seed: int
    ) -> "SamplingRequest":
        """A request whose tokens are drawn as `sampling` says."""
        return cls(
            count,
            sampling.temperature,
            max_new_tokens,
            seed,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            stop=sampling.stop,
        )


@dataclass(frozen=True, slots=True)
class LearnerTokens:
    """What the learner says of each of an answer's T tokens, before the update."""

    gaps: NDArray[np.float32]
    """float32 [T] nats: its logprob of each token less the sampler's."""
    entropies: NDArray[np.float32]
    """float32 [T] nats, of its probabilities where each token stands."""

    @property
    def logprob_gap(self) -> float:
        """Mean |learner - sampler| logprob, nats."""
        return float(np.abs(self.gaps).mean())

    @property
    def largest_gap(self) -> float:
        """Largest |learner - sampler| logprob, nats."""
        return float(np.abs(self.gaps).max())


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What one update of the policy did, or those of a step together."""

    metrics: Mapping[str, float]
    """Means over the answers' tokens: entropy, clip_share, kl; logprob_gap, |learner - sampler|,
    its largest value and sampler_kl, KL(sampler || learner) by k3, before the step's first update;
    importance, the weight, and importance_bounded, the share of tokens on which its bounds act. The
    loss; grad_norm before clipping; the learning rate; updates that were skipped."""
    answers: Mapping[int, LearnerTokens]
    """Of each answer learned from, by its place in the step."""
    skips: tuple[bool, ...]
    """Of each update, in order: the loss or a gradient was not finite, and the policy is as it was
    before it."""

    @property
    def skipped(self) -> bool:
        """Whether there were updates, and each was skipped."""
        return bool(self.skips) and all(self.skips)


IMAGE_MARK = "<image>"
