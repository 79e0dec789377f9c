"""The laptop's model on R1V's path (paper, section 2.1): a projector aligned with a substitute
language model, the reasoner swapped in, and fine-tuned on chats about pictures."""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from configs.jobs.assembly import AssembleOptions
from configs.jobs.sft import AlignPolicyConfig, AlignRecipe, PassConfig, SFTRecipe
from configs.schema.data import ChatDataConfig, ChatLimits
from configs.schema.features import FeaturesConfig
from configs.schema.learner import SFTLearnerConfig, SFTOptimizerConfig
from configs.schema.policy import Part, PolicyConfig
from configs.schema.run import CheckpointConfig, SFTLogConfig
from configs.schema.tiny import TinyPathConfig
from models.assembly.r1v import plan_assembly, plan_swap
from rl.jobs.sft import sft_runs
from rl.tiny.parts import TinyParts

_PROMPT = ChatLimits(max_tokens=128, max_images=1)
_TOKENS = 4096
"""Tokens of a forward pass: most steps are one."""


@dataclass(frozen=True, slots=True)
class FineTuneStage:
    """One fine-tuning: `chats` names built-in chats, `train` the parts that learn."""

    name: str
    chats: str
    train: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class TinyPipeline:
    """Alignment, swap and fine-tuning; all folders lie in `log.folder`."""

    config: TinyPathConfig
    seed: int
    log: SFTLogConfig

    @property
    def assembled(self) -> Path:
        """Tower and substitute behind a new projector."""
        return self.log.folder / "assembled"

    @property
    def aligned(self) -> Path:
        """The same, its projector aligned."""
        return self._alignment().runs[-1].policy_folder

    @property
    def swapped(self) -> Path:
        """The reasoner behind the projector that was aligned with the substitute."""
        return self.log.folder / "swapped"

    def run(self, parts: TinyParts, *stages: FineTuneStage) -> list[Path]:
        """Align, swap, and fine-tune by each of `stages`, all in one Ray Train job.

        Returns:
            The folder of each stage's policy; every stage starts from `swapped`.
        """
        options = AssembleOptions(seed=self.seed, max_tiles=1)
        plan_assembly(parts.tower, parts.substitute, options).write(self.assembled)
        # Its processor measures the stages' chats now; its weights are written after alignment.
        plan_swap(self.assembled, parts.reasoner).write(self.swapped)
        for shard in self.swapped.glob("*.safetensors"):
            shard.unlink()
        aligned, reasoner, swapped = (
            folder.resolve() for folder in (self.aligned, parts.reasoner, self.swapped)
        )
        then = partial(_swap, aligned, reasoner, swapped)
        runs = [self._fine_tuning(self.swapped, stage) for stage in stages]
        _, *folders = sft_runs([self._alignment(), *runs], before={stages[0].name: then})
        return folders

    def fine_tune(self, policy: Path, stage: FineTuneStage) -> Path:
        """Fine-tune `policy` by one stage; returns the new policy's folder."""
        return sft_runs([self._fine_tuning(policy, stage)])[0]

    def _alignment(self) -> AlignRecipe:
        path = self.config
        one = PassConfig(
            data=self._chats("digits-align", path.align_steps),
            lr=path.align_lr,
            steps=path.align_steps,
        )
        policy = AlignPolicyConfig(path=str(self.assembled), dtype="float32")
        shared = self._shared(path.align_weight_decay)
        return AlignRecipe(name="align", policy=policy, passes=(one,), **shared)

    def _fine_tuning(self, policy: Path, stage: FineTuneStage) -> SFTRecipe:
        return SFTRecipe(
            name=stage.name,
            policy=PolicyConfig(path=str(policy), train=stage.train, dtype="float32"),
            data=self._chats(stage.chats, self.config.sft_steps),
            steps=self.config.sft_steps,
            # A projector has a frozen tower before it, whose features can be kept.
            features=FeaturesConfig(keep="memory" if "projector" in stage.train else "off"),
            **self._shared(),
        )

    def _chats(self, source: str, steps: int) -> ChatDataConfig:
        """Built-in chats, as many as `steps` steps take."""
        return ChatDataConfig(source=source, limit=steps * self.config.batch_size)

    def _shared(self, weight_decay: float = 0.05) -> dict[str, Any]:
        optimizer = SFTOptimizerConfig(
            lr=self.config.sft_lr, warmup_ratio=0.05, weight_decay=weight_decay
        )
        learner = SFTLearnerConfig(
            gradient_checkpointing=False,
            max_tokens_per_microbatch=_TOKENS,
            cpu_threads=2,  # more would wait for one another
            optimizer=optimizer,
        )
        last = CheckpointConfig(every=10**6, keep=1)
        return {
            "seed": self.seed,
            "batch_size": self.config.batch_size,
            "prompt": _PROMPT,
            "learner": learner,
            "checkpoint": last,
            "log": self.log,
        }


def _swap(aligned: Path, reasoner: Path, out: Path) -> None:
    """Replace `out` by the reasoner behind the aligned projector."""
    shutil.rmtree(out, ignore_errors=True)
    plan_swap(aligned, reasoner).write(out)
