"""Each policy on the way, asked the same held-out problems."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from configs.jobs.rounds import HeldOutSetsConfig
from configs.schema.data import DataConfig, PromptConfig
from configs.schema.reward import RewardConfig
from models.inputs.encoder import InputEncoder
from models.inputs.think_tags import reward_for_template
from rl.algorithms.interfaces import AnswerStream
from rl.benchmarks.answers import answers_file, answers_writer, read_answers
from rl.benchmarks.evaluation import EvaluationSettings, evaluate
from rl.data.problems import ProblemSet
from rl.data.thinking import has_thoughts

_KEPT = ("accuracy", "low", "high", "mean_length", "truncated_share")

SetFigures = Mapping[str, Mapping[str, float]]
"""By set: accuracy with low and high of its interval, mean_length (tokens), truncated_share and
think_share."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Asks one policy after another the same problems."""

    config: HeldOutSetsConfig
    prompt: PromptConfig
    reward: RewardConfig
    max_new_tokens: int
    seed: int
    at_a_time: int
    """Answers under way at a time."""

    def __call__(self, policy: str, rollouts: AnswerStream, folder: Path) -> dict[str, Any]:
        """Figures of `policy`, which the engines hold; its answers are kept in `folder`.

        Answers that a killed try kept there are not asked for again.
        """
        encoder = InputEncoder(policy, self.prompt, False)
        reward = reward_for_template(self.reward, encoder)
        return {
            name: self._asked(name, data, (encoder, reward), rollouts, folder)
            for name, data in self.config.sets.items()
        }

    def _asked(
        self,
        name: str,
        data: DataConfig,
        asked_by: tuple[InputEncoder, RewardConfig],
        rollouts: AnswerStream,
        folder: Path,
    ) -> dict[str, float]:
        encoder, reward = asked_by
        problems = ProblemSet.open(
            data,
            measure=encoder.measure,
            max_tokens=self.prompt.max_tokens,
            rejected=folder / f"rejected_{name}.jsonl",
        ).first(None)
        settings = EvaluationSettings(
            name=name,
            samples=self.config.samples,
            sampling=self.config,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            reward=reward,
            at_a_time=self.at_a_time,
        )
        path = answers_file(folder, name)
        with answers_writer(path) as writer:
            result = evaluate(
                rollouts,
                problems,
                settings,
                answered=read_answers(path),
                keep=lambda answer: writer.write(answer.line()),
            )
        thinks = partial(has_thoughts, thinking=reward.thinking)
        share = fmean(thinks(answer.text) for answer in read_answers(path))
        return {key: result.figures[key] for key in _KEPT} | {"think_share": share}
