"""The laptop's parts, pretrained once as Ray tasks, two at a time, and cached."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray

from actors.cluster.cpu_threads import cpu_thread_variables
from configs.schema.tiny import PartsConfig
from models.tiny import model, pretraining
from models.tiny.pretraining import PretrainConfig, pretrained_language, pretrained_tower
from rl.console.progress import Phase, phase
from rl.digits import problems, wording
from rl.digits.wording import AnswerStyle
from rl.storage.cache import cache_folder, code_digest, get_or_build

_AT_A_TIME = 2
"""Parts that are pretrained at the same time."""
_BASE: dict[AnswerStyle, float] = {"list": 0.25, "plain": 0.25, "chain": 0.5}
_SUBSTITUTE: dict[AnswerStyle, float] = {"list": 0.25, "plain": 0.75}
_REASONER: dict[AnswerStyle, float] = {"chain": 1.0}


@dataclass(frozen=True, slots=True)
class TinyParts:
    """Folders of the parts."""

    folder: Path

    @property
    def tower(self) -> Path:
        """The vision tower."""
        return self.folder / "tower"

    @property
    def base(self) -> Path:
        """The language model that the other two descend from."""
        return self.folder / "base"

    @property
    def substitute(self) -> Path:
        """The language model that answers plainly."""
        return self.folder / "substitute"

    @property
    def reasoner(self) -> Path:
        """The language model that thinks first."""
        return self.folder / "reasoner"


def cached_parts(config: PartsConfig, seed: int) -> TinyParts:
    """Where these parts are cached, or will be: named by code, config and seed."""
    code = (pretraining.__file__, model.__file__, wording.__file__, problems.__file__)
    name = code_digest(code, config, seed, _BASE, _SUBSTITUTE, _REASONER)
    return TinyParts(cache_folder() / "parts" / name)


def tiny_parts_of(config: PartsConfig, seed: int) -> TinyParts:
    """The parts, from the cache or pretrained now in the open Ray session."""
    parts = cached_parts(config, seed)
    get_or_build(parts.folder, lambda aside: _pretrain(TinyParts(aside), config, seed))
    return parts


def _pretrain(parts: TinyParts, config: PartsConfig, seed: int) -> None:
    """Pretrain tower and base side by side, then both descendants of the base."""

    def language(steps: int, lr: float) -> PretrainConfig:
        return PretrainConfig(steps, config.batch_size, seed, lr, config.layers)

    tower = PretrainConfig(config.tower_steps, config.tower_batch_size, seed, config.lr)
    base = language(config.base_steps, config.lr)
    plain = language(config.substitute_steps, config.descendant_lr)
    thinking = language(config.reasoner_steps, config.descendant_lr)
    steps = sum(part.steps for part in (tower, base, plain, thinking))
    with phase("pretraining the parts", steps) as work:
        _finish(
            work,
            tower=_begin(pretrained_tower, parts.tower, tower),
            base=_begin(pretrained_language, parts.base, base, _BASE),
        )
        _finish(
            work,
            substitute=_begin(
                pretrained_language, parts.substitute, plain, _SUBSTITUTE, parts.base
            ),
            reasoner=_begin(pretrained_language, parts.reasoner, thinking, _REASONER, parts.base),
        )


def _begin(teach: Callable[..., Iterator[float]], *args: Any) -> Any:
    """Start a Ray task that yields the loss of each step."""
    variables = cpu_thread_variables(_AT_A_TIME)
    options: dict[str, Any] = {
        "num_cpus": 0,
        "max_retries": 0,
        "runtime_env": {"env_vars": variables},
    }
    return ray.remote(**options)(teach).remote(*args)


def _finish(work: Phase, **tasks: Any) -> None:
    """Show the losses of all tasks until they end. Raises what a task raises."""
    names = {task: name for name, task in tasks.items()}
    while names:
        (ready, *_), _ = ray.wait(list(names))
        try:
            loss: Any = ray.get(next(cast(Any, ready)))
        except StopIteration:
            names.pop(ready)
        else:
            work.advance(note=f"{names[ready]}: loss {loss:.3f}")
