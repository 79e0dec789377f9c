"""Rounds of distillation and fine-tuning as stages (paper, section 2.2).

D_t = {x : RM(x) >= tau_t} and E_{t-1}, the problems that the policy of the round before got wrong.
In each round one start of engines on that policy serves its evaluation, its failures and its
chains; then it is fine-tuned on D_t.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from configs.jobs.distill import DistillRecipe
from configs.jobs.rounds import RoundConfig, RoundsSections
from configs.jobs.sft import SFTRecipe
from configs.loading.recipe import SAVED_AS
from rl.algorithms.interfaces import AnswerStream
from rl.console.progress import CONSOLE
from rl.distillation.shards import chats_of
from rl.jobs.distill import Distillation
from rl.jobs.generate import generation
from rl.jobs.prepare import plan_run
from rl.jobs.sft import sft_runs
from rl.stages.chosen import IDS, QUALITY, Grades, best_round, choose, write_best
from rl.stages.grading import grade_chains
from rl.stages.ledger import Figures, Stage, StageLedger
from rl.stages.measure import Measure
from rl.storage.atomic import link_or_copy
from rl.storage.cache import code_digest

CHOICE = "choose"
"""The stage that takes the best policy of all rounds."""


@dataclass(frozen=True)
class Rounds:
    """The rounds of a recipe, from the policy `start`."""

    recipe: RoundsSections
    start: str
    """Folder or hub name."""
    ledger: StageLedger
    needs: tuple[str, ...] = ()
    """The stage that makes `start`."""

    def stages(self) -> Iterator[Stage]:
        """Each round's two stages, in order."""
        recipe = self.recipe
        shared: dict[str, Any] = {"seed": recipe.seed}
        asked = shared | recipe.model_dump(mode="json", include={"distill", "held_out"})
        learned = shared | recipe.model_dump(mode="json", include={"sft", "quality"})
        needs = self.needs
        for number, config in enumerate(recipe.rounds, start=1):
            chains, sft = self._names(number)
            yield Stage(chains, asked, needs, partial(self._distill, number))
            settings = learned | {"round": config.model_dump(mode="json")}
            yield Stage(sft, settings, (chains,), partial(self._learn, number, config))
            needs = (sft,)
        held_out = recipe.held_out.model_dump(mode="json")
        yield Stage(CHOICE, shared | {"held_out": held_out}, needs, self._choose)

    @property
    def best(self) -> Path:
        """The policy that was chosen."""
        return self.recipe.run_folder.resolve() / "policy"

    @property
    def best_chains(self) -> Path:
        """The file with the ids of the problems that GRPO learns from."""
        return self.recipe.run_folder.resolve() / "grpo_ids.txt"

    def policy(self, number: int) -> str:
        """The policy behind so many rounds."""
        return str(self._folder(number) / "sft" / "policy") if number else self.start

    def chains(self, number: int) -> Path:
        """Where a round's chains lie."""
        return self._folder(number) / "distill"

    def measured(self, policy: str, folder: Path, resume: bool) -> dict[str, Any]:
        """Figures of a policy, by engines of its own; its answers are kept in `folder`."""
        recipe = self._distillation(0)
        asked = recipe.policy.model_copy(update={"path": policy})
        with self._engines(recipe.model_copy(update={"policy": asked})) as rollouts:
            return self._ask(policy, rollouts, folder, resume)

    def policies(self) -> dict[str, Mapping[str, Any]]:
        """Figures of each policy that was asked so far, by the stage that made it."""
        found: dict[str, Mapping[str, Any]] = {}
        made = self.needs[-1] if self.needs else "start"
        for number in range(1, len(self.recipe.rounds) + 1):
            chains, sft = self._names(number)
            if self.ledger.finished(chains):
                found[made] = self.ledger.figures(chains)["policy"]
            made = sft
        if self.ledger.finished(CHOICE):
            found[made] = self.ledger.figures(CHOICE)["policy"]
        return found

    def _names(self, number: int) -> tuple[str, str]:
        return f"round_{number}/distill", f"round_{number}/sft"

    def _folder(self, number: int) -> Path:
        return self.recipe.run_folder.resolve() / f"round_{number}"

    @cached_property
    def _measure(self) -> Measure:
        recipe = self.recipe.distill
        return Measure(
            self.recipe.held_out,
            recipe.prompt,
            recipe.reward,
            recipe.rollout.max_new_tokens,
            self.recipe.seed,
            recipe.problems_at_a_time,
        )

    def _engines(self, recipe: DistillRecipe) -> Any:
        plan = plan_run(recipe)
        return generation(recipe, plan, problems_at_a_time=recipe.problems_at_a_time)

    def _distillation(self, number: int) -> DistillRecipe:
        """The recipe by which the policy behind `number` rounds writes the next one's chains."""
        recipe, stage = self.recipe, self.recipe.distill
        policy = stage.policy.model_copy(update={"path": self.policy(number)})
        log = stage.log.model_copy(update={"folder": self._folder(number + 1)})
        update = {"policy": policy, "log": log, "seed": recipe.seed, "device": recipe.device}
        return stage.model_copy(update=update)

    def _distill(self, number: int, resume: bool) -> Figures:
        recipe = self._distillation(number - 1)
        resume = resume and (recipe.run_folder / SAVED_AS).is_file()
        work = Distillation.prepare(recipe, resume, mended=self._teachers())
        work.judge()
        with work.engines(recipe) as rollouts:
            folder = self._folder(number - 1) / "measured"
            figures = self._ask(self.policy(number - 1), rollouts, folder, resume)
            work.write_chains(rollouts)
        work.mend()
        return {"policy": figures, "chains": work.finish()}

    def _ask(
        self, policy: str, rollouts: AnswerStream, folder: Path, resume: bool
    ) -> dict[str, Any]:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        return self._measure(policy, rollouts, folder)

    def _teachers(self) -> Path:
        """The teacher's chains, which rounds share: they do not depend on the policy."""
        stage = self.recipe.distill
        decides = (stage.teacher, stage.data, stage.prompt, stage.reward, stage.rollout)
        return self.recipe.run_folder / "teacher" / code_digest((), *decides, self.recipe.seed)

    def _learn(self, number: int, config: RoundConfig, resume: bool) -> Figures:
        folder = self._folder(number)
        if not resume:
            shutil.rmtree(folder / QUALITY, ignore_errors=True)
        reward = self.recipe.distill.reward
        grade_chains(self.chains(number), folder / QUALITY, self.recipe.quality, reward)
        before = self._folder(number - 1) if number > 1 else None
        figures = choose(Grades.read(folder), config.threshold, folder, before)
        CONSOLE.print(", ".join(f"{name} {value:g}" for name, value in figures.items()))
        recipe = self._fine_tuning(number, config, folder / IDS)
        resume = resume and any((recipe.run_folder / "checkpoints").glob("step_*"))
        sft_runs([recipe], resume)
        return figures

    def _fine_tuning(self, number: int, config: RoundConfig, ids: Path) -> SFTRecipe:
        recipe, stage = self.recipe, self.recipe.sft
        optimizer = stage.learner.optimizer.model_copy(update={"lr": config.lr})
        update = {
            "policy": stage.policy.model_copy(update={"path": self.policy(number - 1)}),
            "data": chats_of(self.chains(number)).model_copy(update={"ids": ids}),
            "learner": stage.learner.model_copy(update={"optimizer": optimizer}),
            "epochs": config.epochs,
            "log": stage.log.model_copy(update={"folder": self._folder(number)}),
            "seed": recipe.seed,
            "device": recipe.device,
        }
        return stage.model_copy(update=update)

    def _choose(self, resume: bool) -> Figures:
        """Ask the last policy too, and take the best by held-out accuracy, not the last."""
        last = len(self.recipe.rounds)
        figures = self.measured(self.policy(last), self._folder(last) / "measured", resume)
        names = [self._names(number)[0] for number in range(2, last + 1)]
        asked = [self.ledger.figures(name)["policy"] for name in names] + [figures]
        chooses = next(iter(self.recipe.held_out.sets))
        accuracies = {n: each[chooses]["accuracy"] for n, each in enumerate(asked, start=1)}
        best = best_round(accuracies)
        shutil.rmtree(self.best, ignore_errors=True)
        shutil.copytree(self.policy(best), self.best, copy_function=link_or_copy)
        count = write_best(Grades.read(self._folder(last)), self.best_chains)
        return {"policy": figures, "best_round": best, "grpo_problems": count}
