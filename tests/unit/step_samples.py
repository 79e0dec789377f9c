"""Small problems, answers and scores, of which the tests of the loop build their steps."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Generic, TypeVar

from PIL import Image

from configs.jobs.grpo import GRPORecipe
from rl.data.records import CAUSES, Answer, Cause, Group, Problem, Score, ScoredGroup, Verdict

T = TypeVar("T")


class Ready(Generic[T]):
    """A pending result that is there already."""

    def __init__(self, value: T, seconds: float = 0.5) -> None:
        self._value = value
        self.seconds = seconds

    def result(self) -> T:
        return self._value


def recipe(**changes: Any) -> GRPORecipe:
    """A recipe of `exact` answers on some data, with `changes` to its top level."""
    return GRPORecipe.model_validate(
        {
            "name": "trial",
            "policy": {"path": "some/model"},
            "data": {"source": "rows.parquet"},
            "reward": {"weights": {"exact": 1.0}, "accuracy": "exact"},
            "log": {"wandb": False},
        }
        | changes
    )


SHORT: dict[str, Any] = {"prompt": {"max_tokens": 300}, "rollout": {"max_new_tokens": 200}}
"""Rows that the tiny policy has positions for."""


def short_recipe(**changes: Any) -> GRPORecipe:
    """A recipe of such rows."""
    rollout = SHORT["rollout"] | changes.pop("rollout", {})
    return recipe(**SHORT | {"rollout": rollout} | changes)


def png(width: int, height: int, colour: tuple[int, int, int] = (9, 99, 200)) -> bytes:
    """An encoded picture with a slope in it, so that no two places look the same."""
    image = Image.linear_gradient("L").resize((width, height))
    file = BytesIO()
    Image.merge("RGB", [image.point(lambda v, c=c: (v + c) % 256) for c in colour]).save(
        file, "PNG"
    )
    return file.getvalue()


def answer(tokens: int | Sequence[int], text: str = "", version: int = 0) -> Answer:
    """An answer of given ids, or of so many, each drawn with probability 1/e."""
    ids = tuple(range(tokens)) if isinstance(tokens, int) else tuple(tokens)
    return Answer(ids, (-1.0,) * len(ids), text, "stop", version)


def score(reward: float | None, cause: Cause = "correct") -> Score:
    """A score of one reward; None: the verifier crashed."""
    if reward is None:
        return Score({"exact": Verdict(0.0, cause if cause != "correct" else "crash")}, None)
    return Score({"exact": Verdict(reward, cause)}, reward)


def scored(
    rewards: Sequence[float | None], *, name: str = "p", answers: Sequence[Answer] = ()
) -> ScoredGroup:
    """A group with these rewards; answer g has g + 1 tokens where none are given."""
    given = tuple(answers) or tuple(answer(g + 1) for g in range(len(rewards)))
    group = Group(Problem(name, "1+1?", ("2",)), (7, 8, 9), given)
    return ScoredGroup(group, tuple(score(reward) for reward in rewards))


def shares(**named: float) -> Mapping[str, float]:
    """Verdict shares by cause, 0 where not named."""
    return {f"verdicts/{cause}": named.get(cause, 0.0) for cause in CAUSES}
