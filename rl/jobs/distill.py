"""Distillation of adaptive-length chains of thought as a job (paper, section 2.3).

Passes over the problems, each resumable row by row: the policy's own answers with and without
images give each question its scores and so its repetition penalty; the policy writes chains under
that penalty, and right ones are kept; a teacher writes those that it got wrong.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_outlives_job
from actors.rollout.rollouts import Rollouts
from configs.loading.recipe import SAVED_AS, read_recipe
from configs.schema.distill import DistillRecipe, TeacherConfig
from configs.schema.generate import GenerationRecipe
from configs.schema.reward import RewardConfig
from models.inputs.encoder import InputEncoder
from models.policy.check import read_config
from rewards.trial import try_rewards
from rl.algorithms.chain_length import (
    Measured,
    QueryScores,
    penalty_range,
    query_scores,
    repetition_penalties,
)
from rl.console.errors import UserError
from rl.console.progress import CONSOLE, phase
from rl.data.chain_shards import Chain, write_shard
from rl.data.problems import ProblemSet
from rl.data.records import IMAGE_MARK, Answer, Problem, SamplingRequest, Score, ScoredGroup
from rl.jobs.clarity import clarities
from rl.jobs.generate import generation
from rl.jobs.prepare import plan_run
from rl.storage.atomic import atomic_file
from rl.storage.journal import Journal
from rl.storage.jsonl import to_json_line
from rl.storage.run_folder import archive_existing_run, save_recipe

_READ_AT_A_TIME = 64
_FREE = ("rollout", "device", "cluster", "log", "name", "problems_at_a_time", "max_dropped_share")
"""Sections that a resumed run may change: they say how, not what."""

Note = Callable[[ScoredGroup], dict[str, Any]]
Asked = tuple[Problem, SamplingRequest, Note]
"""A problem as it is asked, how, and what is kept of its answers."""
Ask = Callable[[int, Problem], Asked]


def distill_command(recipe: DistillRecipe, resume: bool) -> None:
    """Distil as the recipe says, in a Ray session of its own."""
    with ray_session():
        summary = distill(recipe, resume)
    CONSOLE.print(", ".join(f"{name} {value:g}" for name, value in summary.items()))
    CONSOLE.print(f"the chains lie in {recipe.run_folder}; rl/sft.py learns them")


def distill(recipe: DistillRecipe, resume: bool) -> dict[str, float]:
    """Distil in the Ray session that is open; the chats lie in the run's folder.

    Returns:
        The summary: problems, chains by provenance, dropped, tokens_mean, penalties.

    Raises:
        UserError: the policy, the teacher, the data, a reward or the run to resume lack what the
            recipe asks for, or too many problems got no chain.
    """
    return _Distillation.prepare(recipe, resume).run()


@dataclass(frozen=True, slots=True)
class _Distillation:
    recipe: DistillRecipe
    problems: ProblemSet

    @classmethod
    def prepare(cls, recipe: DistillRecipe, resume: bool) -> "_Distillation":
        """Look at all that the recipe names, and take up or make the run's folder."""
        folder = recipe.run_folder
        for model in filter(None, (recipe.policy, recipe.teacher)):
            read_config(model)
        check_outlives_job(folder)
        if resume:
            _check_same(recipe)
        else:
            archive_existing_run(folder)
        save_recipe(recipe, folder)
        policy = recipe.policy
        encoder = InputEncoder(policy.path, recipe.prompt, policy.trust_remote_code)
        problems = ProblemSet.open(
            recipe.data,
            measure=encoder.measure,
            max_tokens=recipe.prompt.max_tokens,
            rejected=folder / "rejected.jsonl",
            seed=recipe.seed,
        )
        try_rewards(recipe.reward, problems.first(1)[0])
        return cls(recipe, problems)

    def run(self) -> dict[str, float]:
        """The passes, and the parquet files of what they found."""
        recipe = self.recipe
        total = range(len(self.problems))
        clarity = clarities(
            self.problems, recipe.scoring.full_resolution, recipe.run_folder / "clarity"
        )
        with self._generation(recipe) as rollouts:
            scores = self._scores(rollouts, clarity)
            penalties = repetition_penalties(scores, recipe.length)
            own = self._pass("chains", total, rollouts, partial(self._own, penalties))
        failed = [index for index, line in own.lines() if "text" not in line]
        mended = self._journal("mended")
        if recipe.teacher and failed:
            with self._generation(_as_policy(recipe, recipe.teacher)) as rollouts:
                self._pass("mended", failed, rollouts, partial(self._teach, recipe.teacher))
        return self._write(own, mended, scores, penalties)

    def _generation(self, recipe: GenerationRecipe) -> AbstractContextManager[Rollouts]:
        plan = plan_run(recipe)
        return generation(recipe, plan, problems_at_a_time=self.recipe.problems_at_a_time)

    def _journal(self, name: str) -> Journal:
        return Journal(self.recipe.run_folder / "journal" / name, self.recipe.rows_per_shard)

    def _pass(self, name: str, indices: Iterable[int], rollouts: Rollouts, ask: Ask) -> Journal:
        """Ask what is not finished yet, and note each row as it is; `ask` says how."""
        journal = self._journal(name)
        left = [index for index in indices if index not in journal.done]
        asked = ((index, *ask(index, problem)) for index, problem in self._read(left))
        notes: dict[int, tuple[int, Note]] = {}

        def requests() -> Iterator[tuple[Problem, SamplingRequest]]:
            for place, (index, problem, request, note) in enumerate(asked):
                notes[place] = index, note
                yield problem, request

        with phase(f"{name}: {self.recipe.data.source}", len(left)) as work:
            for place, group in rollouts.stream(requests(), at_a_time=self.recipe.problems_at_a_time):
                index, note = notes.pop(place)
                journal.write(index, note(group))
                work.advance()
        journal.close()
        return journal

    def _read(self, indices: Sequence[int]) -> Iterator[tuple[int, Problem]]:
        for start in range(0, len(indices), _READ_AT_A_TIME):
            some = indices[start : start + _READ_AT_A_TIME]
            yield from zip(some, self.problems.select(some), strict=True)

    def _scores(self, rollouts: Rollouts, clarity: NDArray[np.float64]) -> list[QueryScores]:
        """Each question's raw scores, measured by the policy's own answers."""
        total = range(len(self.problems))
        seen = self._pass("seen", total, rollouts, partial(self._ask, blind=False))
        pictured = [index for index in total if not np.isnan(clarity[index])]
        blind = self._pass("blind", pictured, rollouts, partial(self._ask, blind=True))
        without = {index: line["accuracy"] for index, line in blind.lines()}
        found: dict[int, QueryScores] = {}
        for index, line in seen.lines():
            measured = Measured(
                line["accuracy"], without.get(index, 0.0), line["answered"], line["length"]
            )
            clear = None if np.isnan(clarity[index]) else float(clarity[index])
            found[index] = query_scores(line["question"], clear, measured)
        return [found[index] for index in total]

    def _ask(self, index: int, problem: Problem, *, blind: bool) -> Asked:
        scoring, limit = self.recipe.scoring, self.recipe.rollout.max_new_tokens
        asked = _without_images(problem) if blind else problem
        request = SamplingRequest(scoring.samples, scoring.temperature, limit, self.recipe.seed)
        return asked, request, partial(_measured, self.recipe, problem)

    def _own(self, penalties: NDArray[np.float64], index: int, problem: Problem) -> Asked:
        recipe = self.recipe
        request = SamplingRequest(
            recipe.samples,
            recipe.rollout.temperature,
            recipe.rollout.max_new_tokens,
            recipe.seed + 1,
            top_p=recipe.top_p,
            repetition_penalty=float(penalties[index]),
        )
        return problem, request, partial(_shortest_right, recipe.reward)

    def _teach(self, teacher: TeacherConfig, index: int, problem: Problem) -> Asked:
        words = {"question": problem.question, "answer": problem.gold[0], **problem.fields}
        told = {name: _in_words(value) for name, value in words.items()}
        asked = replace(problem, question=teacher.question.format(**told))
        recipe = self.recipe
        request = SamplingRequest(
            teacher.samples,
            recipe.rollout.temperature,
            recipe.rollout.max_new_tokens,
            recipe.seed + 2,
        )
        shown = asked if teacher.images else _without_images(asked)
        return shown, request, partial(_shortest_right, recipe.reward)

    def _write(
        self,
        own: Journal,
        mended: Journal,
        scores: Sequence[QueryScores],
        penalties: NDArray[np.float64],
    ) -> dict[str, float]:
        """Write the shards, what was dropped with its reason, and the summary."""
        recipe, rows = self.recipe, self.recipe.rows_per_shard
        tokens: list[int] = []
        count: Counter[str] = Counter()
        dropped = recipe.run_folder / "dropped.jsonl"
        with atomic_file(dropped) as aside, aside.open("w", encoding="utf-8") as out:
            for shard in range(-(-len(self.problems) // rows)):
                chains: list[tuple[Problem, Chain]] = []
                first, second = own.read(shard), mended.read(shard)
                for index, problem in self._read(sorted(first)):
                    line, by = first[index], "policy"
                    if index in second:
                        line, by = second[index], "teacher"
                    if "text" not in line:
                        count["dropped"] += 1
                        out.write(to_json_line({"id": problem.id, **line, "by": by}))
                        continue
                    count[by] += 1
                    tokens.append(line["tokens"])
                    text = _opened(line["text"], recipe.reward)
                    chain = Chain(
                        text, by, line["tokens"], float(penalties[index]), asdict(scores[index])
                    )
                    chains.append((problem, chain))
                write_shard(recipe.run_folder, shard, chains, recipe.prompt)
        summary = {
            "problems": float(len(self.problems)),
            **{name: float(count[name]) for name in ("policy", "teacher", "dropped")},
            "tokens_mean": fmean(tokens) if tokens else float("nan"),
            **penalty_range(penalties),
        }
        with atomic_file(recipe.run_folder / "summary.json") as aside:
            aside.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
        if not tokens or count["dropped"] > recipe.max_dropped_share * len(self.problems):
            raise UserError(
                f"{count['dropped']:,} of {len(self.problems):,} problems got no chain, more than "
                f"max_dropped_share={recipe.max_dropped_share:g} allows; {dropped} has the reasons"
            )
        return summary


def _check_same(recipe: DistillRecipe) -> None:
    """Refuse to go on under a recipe that would mix two kinds of chains in one data set."""
    saved = recipe.run_folder / SAVED_AS
    if not saved.is_file():
        raise UserError(f"--resume: there is no run in {recipe.run_folder}; leave --resume out")
    then = read_recipe(saved, DistillRecipe).model_dump(mode="json")
    changed = [
        name
        for name, value in recipe.model_dump(mode="json").items()
        if value != then[name] and name not in _FREE
    ]
    if changed:
        raise UserError(
            f"--resume: the recipe differs from the run's in {', '.join(changed)}; set them back, "
            "or start a new run"
        )


def _as_policy(recipe: DistillRecipe, teacher: TeacherConfig) -> DistillRecipe:
    """The recipe whose engines hold the teacher."""
    return recipe.model_copy(update={"policy": teacher})


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _without_images(problem: Problem) -> Problem:
    question = problem.question.replace(IMAGE_MARK, "").strip()
    return replace(problem, question=question, images=())


def _measured(recipe: DistillRecipe, problem: Problem, group: ScoredGroup) -> dict[str, Any]:
    name = recipe.reward.accuracy
    verdicts = [score.verdicts[name] for score in group.scores]
    right = [verdict.cause == "correct" for verdict in verdicts]
    lengths = [len(answer.token_ids) for answer in group.group.answers]
    of_right = [n for n, good in zip(lengths, right, strict=True) if good]
    return {
        "id": problem.id,
        "question": problem.question,
        "accuracy": fmean(verdict.score if verdict.counts else 0.0 for verdict in verdicts),
        "answered": fmean(verdict.cause != "no_answer" for verdict in verdicts),
        "length": fmean(of_right or lengths) / recipe.rollout.max_new_tokens,
    }


def _shortest_right(reward: RewardConfig, group: ScoredGroup) -> dict[str, Any]:
    """The shortest right chain of a group, or why there is none."""
    pairs = list(zip(group.group.answers, group.scores, strict=True))
    right = [answer for answer, score in pairs if _is_right(answer, score, reward)]
    if right:
        best = min(right, key=lambda answer: len(answer.token_ids))
        return {"text": best.text, "tokens": len(best.token_ids)}
    answer, score = pairs[0]
    verdict = score.verdicts[reward.accuracy]
    cut = "cut off; " if answer.finish_reason == "length" else ""
    return {"reason": verdict.cause, "detail": f"{cut}{verdict.detail}", "said": answer.text}


def _is_right(answer: Answer, score: Score, reward: RewardConfig) -> bool:
    """Right, ended by itself, and in the template where the recipe rewards that."""
    kept = "format" not in reward.counting or score.verdicts["format"].score == 1.0
    right = score.verdicts[reward.accuracy].cause == "correct"
    return right and kept and answer.finish_reason == "stop"


def _opened(text: str, reward: RewardConfig) -> str:
    """The chain as an assistant's turn: with the open tag that the prompt had."""
    thinking = reward.thinking
    return f"{thinking.open_tag}{text}" if thinking.prompt_opens else text
