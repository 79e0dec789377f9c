"""The whole recipe as stages: parts, align, swap, rounds, GRPO, evaluation (paper, 2 and 4)."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from configs.jobs.pipeline import PipelineRecipe
from configs.schema.data import TrainingDataConfig
from models.assembly.r1v import plan_assembly, plan_swap
from rl.algorithms.grpo import train
from rl.console.progress import phase
from rl.jobs.evaluate import evaluate_in_session
from rl.jobs.grpo import grpo_in_session
from rl.jobs.prepare import checkpoints_of
from rl.jobs.sft import sft_runs
from rl.stages.ledger import Figures, Stage, StageLedger
from rl.stages.rounds import CHOICE, Rounds
from rl.storage.atomic import link_or_copy
from rl.storage.cache import cache_folder, code_digest, get_or_build

FINAL = "evaluate"
"""The stage that asks the last policy."""


class Parts(Protocol):
    """Folders of what the model is put together of."""

    @property
    def tower(self) -> Path: ...
    @property
    def substitute(self) -> Path: ...
    @property
    def reasoner(self) -> Path: ...


MakeParts = Callable[[], Parts]


@dataclass(frozen=True)
class Pipeline:
    """The stages of a recipe; each one's results lie in a folder of its name."""

    recipe: PipelineRecipe
    ledger: StageLedger
    make_parts: MakeParts | None
    """Makes the parts in the open Ray session, where the recipe names none."""

    @cached_property
    def rounds(self) -> Rounds:
        """The rounds, from the reasoner behind the aligned projector."""
        return Rounds(self.recipe, str(self._folder / "swapped"), self.ledger, needs=("swap",))

    def stages(self) -> Iterator[Stage]:
        """All stages, in order."""
        seed = {"seed": self.recipe.seed}
        yield Stage("parts", seed | self._settings("parts", "start"), (), self._parts)
        align = seed | self._settings("align", "held_out")
        yield Stage("align", align, ("parts",), self._align)
        yield Stage("swap", {}, ("align",), self._swap)
        yield from self.rounds.stages()
        yield Stage("grpo", seed | self._settings("grpo"), (CHOICE,), self._grpo)
        last = seed | self._settings("evaluate", "held_out")
        yield Stage(FINAL, last, ("grpo",), self._evaluate)

    @property
    def _folder(self) -> Path:
        return self.recipe.run_folder.resolve()

    def _settings(self, *sections: str) -> dict[str, Any]:
        return self.recipe.model_dump(mode="json", include=set(sections))

    def _stage(self, stage: Any, **policy: str) -> Any:
        """The recipe of a stage as its job takes it."""
        update = {
            "policy": stage.policy.model_copy(update=policy),
            "log": stage.log.model_copy(update={"folder": self._folder}),
            "seed": self.recipe.seed,
            "device": self.recipe.device,
        }
        return stage.model_copy(update=update)

    def _part(self, name: str) -> str:
        """Where a part lies: what the recipe says, or the folder of those that were made."""
        named: str = getattr(self.recipe.parts, name)
        return named or str(self._folder / "parts" / ("tower" if name == "vision" else name))

    def _parts(self, resume: bool) -> Figures:
        folder = self._folder / "parts"
        if self.make_parts is not None:
            made = self.make_parts()
            for part in (made.tower, made.substitute, made.reasoner):
                _link(part, folder / part.name)
        return {}

    def _align(self, resume: bool) -> Figures:
        aligned = self._folder / "aligned"
        if self.recipe.reuse_aligned:
            kept = get_or_build(self._aligned_cache(), lambda aside: self._train(aside, resume))
            _link(kept, aligned)
        else:
            self._train(aligned, resume)
        return {"policy": self._measured(aligned, resume)}

    def _aligned_cache(self) -> Path:
        recipe = self.recipe
        parts = [self._part(name) for name in ("vision", "substitute")]
        decides = recipe.start or parts
        name = code_digest((), decides, recipe.parts.options, recipe.align, recipe.seed)
        return cache_folder() / "aligned" / name

    def _train(self, out: Path, resume: bool) -> None:
        """Assemble the substitute behind a new projector, and train that."""
        assembled = self._folder / "assembled"
        if not resume or not assembled.is_dir():
            shutil.rmtree(assembled, ignore_errors=True)
            vision, substitute = self._part("vision"), self._part("substitute")
            with phase("assembling"):
                plan_assembly(vision, substitute, self.recipe.parts.options).write(assembled)
        recipe = self._stage(self.recipe.align, path=str(assembled))
        begun = any(recipe.run_folder.rglob("checkpoints/step_*"))
        (policy,) = sft_runs([recipe], resume and begun)
        _link(policy, out)

    def _swap(self, resume: bool) -> Figures:
        out = Path(self.rounds.start)
        shutil.rmtree(out, ignore_errors=True)
        with phase("swapping the language model"):
            plan_swap(self._folder / "aligned", self._part("reasoner")).write(out)
        return {}

    def _grpo(self, resume: bool) -> Figures:
        recipe = self._stage(self.recipe.grpo, path=str(self.rounds.best))
        rows = self.recipe.distill.data.model_dump() | {"ids": self.rounds.best_chains}
        data = TrainingDataConfig.model_validate(rows)
        recipe = recipe.model_copy(update={"data": data})
        begun = any((recipe.run_folder / "checkpoints").glob("step_*"))
        grpo_in_session(recipe, train, None, resume and begun)
        return {}

    def _evaluate(self, resume: bool) -> Figures:
        last = checkpoints_of(self._stage(self.recipe.grpo)).newest()
        assert last is not None, "GRPO writes a checkpoint behind its last step"
        figures = self._measured(last.policy, resume)
        if self.recipe.evaluate is not None:
            recipe = self._stage(self.recipe.evaluate, path=str(last.policy))
            evaluate_in_session(recipe, resume and recipe.run_folder.is_dir())
        return {"policy": figures}

    def _measured(self, policy: Path, resume: bool) -> dict[str, Any]:
        return self.rounds.measured(str(policy), self._folder / "measured" / policy.name, resume)


def _link(source: Path, target: Path) -> None:
    """`target` becomes a copy of the folder `source`, by links where that can be."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=link_or_copy)
