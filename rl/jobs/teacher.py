"""Looks at each problem, and at a teacher of on-policy distillation, before anything is started."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from actors.scoring.teacher import told_more
from configs.jobs.grpo import GRPORecipe
from configs.schema.reward import RewardConfig
from configs.schema.teacher import FrozenTeacherConfig
from models.inputs.encoder import InputEncoder
from models.policy.check import read_config
from rewards.trial import check_gold
from rl.console.errors import UserError
from rl.data.records import Problem
from rl.data.row_outcomes import KnownMeasure


class TeacherPrompts:
    """The teacher's reading of problems, as its actor will read them."""

    def __init__(self, recipe: GRPORecipe, teacher: FrozenTeacherConfig, folder: Path) -> None:
        """`folder`: the policy's.

        Raises:
            UserError: no checkpoint of the teacher can be read, or its tokens are not the policy's.
        """
        if teacher.path:
            read_config(teacher, "teacher.path")
        self._recipe = recipe
        self._context = teacher.context
        self._encoder = InputEncoder(
            teacher.path or folder, recipe.prompt, teacher.trust_remote_code
        )
        own = InputEncoder(folder, recipe.prompt, recipe.policy.trust_remote_code)
        check_same_tokens(own.tokenizer.get_vocab(), self._encoder.tokenizer.get_vocab(), teacher)

    @property
    def settings(self) -> str:
        """All that `check` goes by beside the problem."""
        recipe = self._recipe
        limits = (recipe.rollout.max_new_tokens, recipe.learner.max_tokens_per_microbatch)
        return repr((self._encoder.settings, self._context, *limits))

    def check(self, problem: Problem) -> None:
        """Check that the learner's micro-batch, which the teacher reads by, holds its longest row.

        Raises:
            ValueError: it does not.
        """
        recipe = self._recipe
        prompt = len(self._encoder.encode(told_more(problem, self._context)))
        longest = prompt + recipe.rollout.max_new_tokens - 1
        if longest > recipe.learner.max_tokens_per_microbatch:
            raise ValueError(
                f"the teacher's prompt has {prompt} tokens and an answer up to "
                f"rollout.max_new_tokens={recipe.rollout.max_new_tokens}, more together than "
                f"learner.max_tokens_per_microbatch={recipe.learner.max_tokens_per_microbatch}"
            )


def prompt_measure(
    recipe: GRPORecipe, folder: Path, encoder: InputEncoder
) -> KnownMeasure[Problem]:
    """Tokens of a problem's prompt; a problem that no answer can be scored on is a BadRow."""
    teacher = TeacherPrompts(recipe, recipe.teacher, folder) if recipe.teacher else None
    known = (encoder.settings, recipe.reward.model_dump_json(), teacher and teacher.settings)
    return KnownMeasure(_PromptMeasure(recipe.reward, encoder, teacher), repr(known))


@dataclass(frozen=True, slots=True)
class _PromptMeasure:
    """Tokens of a problem's prompt."""

    reward: RewardConfig
    encoder: InputEncoder
    teacher: TeacherPrompts | None

    def __call__(self, problem: Problem) -> int:
        check_gold(self.reward, problem)
        if self.teacher:
            self.teacher.check(problem)
        return self.encoder.measure(problem)


def check_same_tokens(
    own: Mapping[str, int], teachers: Mapping[str, int], teacher: FrozenTeacherConfig
) -> None:
    """Check that both vocabularies give each token the same id.

    Raises:
        UserError: names tokens that differ.
    """
    if own == teachers:
        return
    differing = sorted(
        token for token in own.keys() | teachers.keys() if own.get(token) != teachers.get(token)
    )
    shown = ", ".join(
        f"{token!r} (policy {own.get(token)}, teacher {teachers.get(token)})"
        for token in differing[:3]
    )
    raise UserError(
        f"teacher.path={teacher.path!r} has another tokenizer than the policy: {len(differing)} "
        f"tokens differ, as {shown}. Its probabilities would be of other tokens; name a teacher of "
        "the policy's family, or distil by chains: rl/distill.py"
    )
