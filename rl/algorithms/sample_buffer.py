"""R1V2's selective sample buffer: answers that teach something, kept for steps whose own do not.

As training goes on, more groups get equal rewards and say nothing; answers of earlier steps with
the largest advantages take their places (arXiv:2504.16656, "Selective Sample Buffer").
"""

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from configs.schema.buffer import SampleBufferConfig
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Experts, Problem
from rl.storage.jsonl import JsonlWriter, read_lines


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """One answer with its prompt."""

    step: int
    """The step that it was sampled in."""
    row: TrainingRow
    """The prompt with this answer alone."""

    @property
    def answer(self) -> TrainingAnswer:
        """The answer."""
        return self.row.answers[0]


class SampleBuffer:
    """The newest answers with an advantage."""

    def __init__(self, config: SampleBufferConfig, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._kept: deque[KeptAnswer] = deque(maxlen=config.size)

    def __len__(self) -> int:
        return len(self._kept)

    def mix(self, step: int, rows: Sequence[TrainingRow], asked: int) -> list[TrainingRow]:
        """The rows of `step` with answers of earlier steps beside them; then `rows` are kept.

        Args:
            asked: answers that the step asked for; those of them that are not in `rows` teach
                nothing, and `fill` of their number is drawn without replacement.

        Returns:
            `rows`, and a row for each problem and step that was drawn from. A drawn answer's index
            is `asked` or more.
        """
        self._drop_older_than(step - self._config.max_age)
        missing = asked - sum(len(row.answers) for row in rows)
        drawn = self._draw(step, round(self._config.fill * missing))
        self._kept.extend(
            KeptAnswer(step, replace(row, answers=(answer,)))
            for row in rows
            for answer in row.answers
            if answer.advantage != 0
        )
        return [*rows, *_joined(drawn, asked)]

    def save(self, path: Path) -> None:
        """Write the answers as JSON lines; problems by their ids."""
        with closing(JsonlWriter(path)) as writer:
            for kept in self._kept:
                writer.write(_line(kept))

    def restore(
        self,
        path: Path,
        problems_of: Callable[[Collection[str]], Mapping[str, Problem]],
        *,
        with_reference: bool = True,
    ) -> None:
        """Read what `save` wrote.

        Args:
            problems_of: the problems of some ids, by them.
            with_reference: keep what a reference said of the answers, as new ones have it.
        """
        lines = list(read_lines(path))
        if not with_reference:
            for line in lines:
                line["reference_logprobs"] = None
        problems = problems_of({line["problem"] for line in lines})
        self._kept.clear()
        self._kept.extend(_kept(line, problems[line["problem"]]) for line in lines)

    def _drop_older_than(self, step: int) -> None:
        while self._kept and self._kept[0].step < step:
            self._kept.popleft()

    def _draw(self, step: int, count: int) -> list[KeptAnswer]:
        """Seed and step alone decide the draw, so that a resumed run makes it again."""
        count = min(count, len(self._kept))
        if count == 0:
            return []
        sizes_K = np.array([abs(kept.answer.advantage) for kept in self._kept])
        weights_K = sizes_K**self._config.exponent
        rng = np.random.default_rng((self._seed, step))
        places = rng.choice(len(weights_K), count, replace=False, p=weights_K / weights_K.sum())
        return [self._kept[place] for place in sorted(places.tolist())]


def _joined(drawn: Sequence[KeptAnswer], first: int) -> list[TrainingRow]:
    """Rows of the drawn answers, those of one problem and step sharing the prompt."""
    rows: dict[tuple[int, str], TrainingRow] = {}
    for place, kept in enumerate(drawn, start=first):
        answer = replace(kept.answer, index=place)
        key = (kept.step, kept.row.problem.id)
        if key in rows:
            rows[key] = replace(rows[key], answers=(*rows[key].answers, answer))
        else:
            rows[key] = replace(kept.row, answers=(answer,))
    return list(rows.values())


def _line(kept: KeptAnswer) -> dict[str, Any]:
    answer = kept.answer
    return {
        "step": kept.step,
        "problem": kept.row.problem.id,
        "prompt_ids": kept.row.prompt_ids,
        "token_ids": answer.token_ids,
        "advantage": answer.advantage,
        "sampler_logprobs": answer.sampler_logprobs,
        "reference_logprobs": answer.reference_logprobs,
        "experts": _as_text(answer.experts),
        "prompt_experts": _as_text(kept.row.prompt_experts),
    }


def _kept(line: dict[str, Any], problem: Problem) -> KeptAnswer:
    reference = line["reference_logprobs"]
    answer = TrainingAnswer(
        index=0,
        token_ids=tuple(line["token_ids"]),
        advantage=line["advantage"],
        sampler_logprobs=tuple(line["sampler_logprobs"]),
        reference_logprobs=None if reference is None else tuple(reference),
        experts=_experts(line.get("experts")),
    )
    prompt_experts = _experts(line.get("prompt_experts"))
    row = TrainingRow(problem, tuple(line["prompt_ids"]), (answer,), prompt_experts)
    return KeptAnswer(line["step"], row)


def _as_text(experts: Experts | None) -> str | None:
    """An array as numpy writes it, in base64: it may hold a million numbers."""
    if experts is None:
        return None
    written = BytesIO()
    np.save(written, experts, allow_pickle=False)
    return b64encode(written.getvalue()).decode()


def _experts(text: str | None) -> Experts | None:
    return None if text is None else np.load(BytesIO(b64decode(text)), allow_pickle=False)
