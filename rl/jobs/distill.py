"""Distillation of adaptive-length chains of thought as a job (paper, section 2.3).

Passes over the problems, each resumable row by row: the policy's own answers with and without
images, or a judge, give each question its scores and so its repetition penalty; the policy writes
chains under that penalty, and right ones are kept; a teacher writes those that it got wrong.
"""

import json
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_run_folder
from actors.rollout.rollouts import Rollouts
from configs.jobs.distill import DistillRecipe, TeacherConfig
from configs.jobs.generate import GenerationRecipe
from configs.loading.recipe import SAVED_AS, read_recipe
from configs.schema.endpoint import EndpointConfig
from models.inputs.encoder import InputEncoder
from models.inputs.think_tags import reward_for_template
from models.policy.check import read_config
from rewards.trial import try_rewards
from rl.algorithms.interfaces import AnswerStream
from rl.console.errors import UserError, as_user_error
from rl.console.progress import CONSOLE
from rl.data.problems import ProblemSet
from rl.data.row_outcomes import KnownMeasure
from rl.distillation.chain_length import penalty_range, repetition_penalties
from rl.distillation.chains import attempts, mended_request, opened, own_request
from rl.distillation.judge_scoring import judge_problems, judge_scores
from rl.distillation.passes import ProblemPasses
from rl.distillation.self_scoring import self_scores
from rl.distillation.shards import Chain, write_shard
from rl.jobs.clarity import clarities
from rl.jobs.generate import generation
from rl.jobs.prepare import plan_run
from rl.storage.atomic import atomic_file
from rl.storage.jsonl import to_json_line
from rl.storage.run_folder import aside_of, save_recipe, take_run_folder

_FREE = ("rollout", "device", "cluster", "log", "name", "problems_at_a_time", "max_dropped_share")
"""Sections that a resumed run may change: they say how, not what."""


def distill_command(recipe: DistillRecipe, resume: bool) -> None:
    """Distil as the recipe says, in a Ray session of its own; the chats lie in the run's folder.

    Raises:
        UserError: the policy, the teacher, the data, a reward or the run to resume lack what the
            recipe asks for, or too many problems got no chain.
    """
    work = Distillation.prepare(recipe, resume)  # what cannot be used is refused before Ray starts
    with ray_session():
        work.judge()
        with work.engines(recipe) as rollouts:
            work.write_chains(rollouts)
        work.mend()
    summary = work.finish()
    CONSOLE.print(", ".join(f"{name} {value:g}" for name, value in summary.items()))
    CONSOLE.print(f"the chains lie in {recipe.run_folder}; rl/sft.py learns them")


@dataclass(frozen=True, slots=True)
class Distillation:
    """One distillation in its parts, for who has engines of the policy at hand."""

    recipe: DistillRecipe
    passes: ProblemPasses
    mended: ProblemPasses
    """The teacher's, which distillations of the same problems may share."""

    @classmethod
    def prepare(
        cls, recipe: DistillRecipe, resume: bool, mended: Path | None = None
    ) -> "Distillation":
        """Look at all that the recipe names, and take up or make the run's folder.

        Args:
            mended: folder of a teacher's chains for the same problems; None: the run's own.

        Raises:
            UserError: something that the recipe names cannot be used.
        """
        folder = recipe.run_folder
        read_config(recipe.policy)
        if recipe.teacher is not None and recipe.teacher.server is None:
            read_config(recipe.teacher, "teacher.path")
        check_run_folder(folder)
        if resume:
            _check_same(recipe)
        aside = aside_of(folder)
        policy = recipe.policy
        encoder = InputEncoder(policy.path, recipe.prompt, policy.trust_remote_code)
        with as_user_error():
            problems = ProblemSet.open(
                recipe.data,
                measure=KnownMeasure(encoder.measure, encoder.settings),
                max_tokens=recipe.prompt.max_tokens,
                rejected=aside / "rejected.jsonl",
            )
        try_rewards(reward_for_template(recipe.reward, encoder), problems.first(1)[0])
        take_run_folder(folder, aside, new=not resume)
        save_recipe(recipe, folder)
        passes = ProblemPasses(
            problems, folder / "journal", recipe.rows_per_shard, recipe.problems_at_a_time
        )
        return cls(recipe, passes, replace(passes, folder=mended) if mended else passes)

    def engines(self, recipe: GenerationRecipe) -> AbstractContextManager[Rollouts]:
        """Engines on the policy of `recipe`, and reward workers."""
        return generation(
            recipe, plan_run(recipe), problems_at_a_time=self.recipe.problems_at_a_time
        )

    def judge(self) -> None:
        """Have the questions judged where the recipe says so; before engines start, as it is slow.

        Raises:
            UserError: the judge is out of reach, or says nothing of too many questions.
        """
        if self.recipe.scoring.judge is not None:
            judge_problems(self.passes, self.recipe.scoring.judge)

    def write_chains(self, rollouts: AnswerStream) -> None:
        """The policy's passes: answers that give the scores, then a chain for each problem."""
        recipe, problems = self.recipe, self.passes.problems
        clarity_N = clarities(
            problems, recipe.scoring.full_resolution, recipe.run_folder / "clarity"
        )
        if recipe.scoring.by == "self":
            scores = self_scores(recipe, self.passes, rollouts, clarity_N)
        else:
            assert recipe.scoring.judge is not None, "the recipe was checked to have a judge"
            scores = judge_scores(self.passes, recipe.scoring.judge, clarity_N)
        penalties_N = repetition_penalties(scores, recipe.length)
        ask = own_request(recipe, scores, penalties_N)
        self.passes.run("chains", range(len(problems)), rollouts, ask)

    def mend(self) -> None:
        """Let the teacher write the chains that the policy got wrong."""
        recipe, teacher = self.recipe, self.recipe.teacher
        mended = self.mended.journal("mended").done
        own = self.passes.journal("chains")
        wrong = [i for i, line in own.lines() if "text" not in line]
        if teacher is not None and set(wrong) - mended:
            with self.engines(_as_policy(recipe, teacher)) as rollouts:
                ask = mended_request(recipe, teacher, attempts(own, recipe.rows_per_shard))
                self.mended.run("mended", wrong, rollouts, ask)

    def finish(self) -> dict[str, float]:
        """Write the shards, what was dropped with its reason, and the summary.

        Raises:
            UserError: too many problems got no chain.
        """
        recipe = self.recipe
        total = len(self.passes.problems)
        dropped = recipe.run_folder / "dropped.jsonl"
        chains: list[Chain] = []
        penalties: list[float] = []
        with atomic_file(dropped) as aside, aside.open("w", encoding="utf-8") as out:
            for shard in range(-(-total // recipe.rows_per_shard)):
                chains += self._write_shard(shard, out.write, penalties)
        by = Counter(chain.provenance for chain in chains)
        summary = {
            "problems": float(total),
            **{name: float(by[name]) for name in ("policy", "teacher", "judge")},
            "dropped": float(total - len(chains)),
            "tokens_mean": fmean(chain.tokens for chain in chains) if chains else float("nan"),
            **penalty_range(penalties),
        }
        with atomic_file(recipe.run_folder / "summary.json") as aside:
            aside.write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
        if not chains or total - len(chains) > recipe.max_dropped_share * total:
            raise UserError(
                f"{total - len(chains):,} of {total:,} problems got no chain, more than "
                f"max_dropped_share={recipe.max_dropped_share:g} allows; {dropped} has the reasons"
            )
        return summary

    def _write_shard(self, shard: int, drop: Any, penalties: list[float]) -> list[Chain]:
        recipe, kept = self.recipe, []
        own = self.passes.journal("chains").read(shard)
        mended = self.mended.journal("mended").read(shard)
        mends = recipe.teacher.provenance if recipe.teacher else "teacher"
        for index, problem in self.passes.read(sorted(own)):
            line, by = own[index], "policy"
            if "text" not in line and index in mended:
                line, by = line | mended[index], mends
            penalties.append(line["penalty"])
            if "text" in line:
                text = opened(line["text"], recipe.reward)
                chain = Chain(text, by, line["tokens"], line["penalty"], line["scores"])
                kept.append((problem, chain))
            else:
                drop(to_json_line({"id": problem.id, "by": by, **line}))
        write_shard(recipe.run_folder, shard, kept, recipe.prompt)
        return [chain for _, chain in kept]


def _check_same(recipe: DistillRecipe) -> None:
    """Refuse to go on under a recipe that would mix two kinds of chains in one data set."""
    saved = recipe.run_folder / SAVED_AS
    if not saved.is_file():
        raise UserError(f"--resume: there is no run in {recipe.run_folder}; leave --resume out")
    then, now = _decisive(read_recipe(saved, DistillRecipe)), _decisive(recipe)
    changed = [name for name, value in now.items() if value != then[name]]
    if changed:
        raise UserError(
            f"--resume: the recipe differs from the run's in {', '.join(changed)}; set them back, "
            "or start a new run"
        )


def _decisive(recipe: DistillRecipe) -> dict[str, Any]:
    """What decides the chains: all but `_FREE`, and where and how patiently servers are asked."""
    said = recipe.model_dump(mode="json", exclude=set(_FREE))
    teacher = said["teacher"] or {}
    for section in filter(None, (said["scoring"]["judge"], teacher.get("server"))):
        for name in (*EndpointConfig.model_fields, "cache"):
            del section[name]
    return said


def _as_policy(recipe: DistillRecipe, teacher: TeacherConfig) -> DistillRecipe:
    """The recipe whose engines hold the teacher."""
    return recipe.model_copy(update={"policy": teacher})
