"""Reads vision encoders: InternViT in either layout, and transformers' SigLIP, CLIP and so on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, InternVLVisionConfig

from models.assembly.processor import image_settings, pixel_statistics
from models.assembly.shards import LazyTensor, Shards, local_folder
from models.assembly.skywork_config import VISION_TYPE, is_chat, vision_config
from models.assembly.skywork_names import tower_as_transformers
from rl.console.errors import UserError, as_user_error

PIXEL_SHUFFLE = 2
"""Patches a side that become one image token (paper, section 2.1: pixel shuffle by 0.5)."""
_PREFIXES = ("", "vision_model.", "vision_tower.", "model.vision_tower.", "model.vision_model.")


@dataclass(frozen=True, slots=True)
class Tower:
    """A vision encoder whose tiles are squares."""

    config: Any
    """transformers' config of the encoder alone."""
    plan: Mapping[str, LazyTensor]
    """Its weights by transformers' names."""
    mean: tuple[float, ...]
    """Subtracted from each colour of a pixel in [0, 1]."""
    std: tuple[float, ...]
    """Divided by after that."""
    tokens: int
    """Output states a tile: one a patch, after a CLS token where there is one."""

    @property
    def image_size(self) -> int:
        """Side of a tile, pixels."""
        return _side(self.config.image_size, "image_size")

    @property
    def grid(self) -> int:
        """Patches a side of a tile."""
        return self.image_size // _side(self.config.patch_size, "patch_size")

    @property
    def has_cls(self) -> bool:
        """Whether a token that is no patch comes first."""
        return self.tokens == self.grid**2 + 1


@as_user_error()
def read_tower(source: Path | str, normalise: str) -> Tower:
    """The vision encoder in a folder or on the hub, or the one inside a whole InternVL or CLIP.

    Args:
        normalise: "tower" for the pixel statistics in its own folder, if any; "imagenet".

    Raises:
        ValueError: weights are missing, its tiles are not square, it makes more of one than a state
            a patch and a CLS token, or its grid of patches cannot be folded.
    """
    folder = local_folder(source)
    shards = Shards(folder)
    raw = json.loads((folder / "config.json").read_text("utf-8"))
    if raw.get("model_type") == VISION_TYPE:
        config, plan = vision_config(raw), tower_as_transformers(shards, "")
    elif is_chat(raw):
        config = vision_config(raw["vision_config"])
        plan = tower_as_transformers(shards, "vision_model.")
    else:
        config, plan = _of_transformers(folder, shards)
    missing = [name for name in ("image_size", "patch_size") if not hasattr(config, name)]
    if missing:
        raise UserError(
            f"{source} is a {config.model_type!r} encoder without {' and '.join(missing)}; take "
            "one that sees square tiles, such as InternViT, SigLIP or CLIP"
        )
    settings = image_settings(folder) if normalise == "tower" else {}
    tower = Tower(config, plan, *pixel_statistics(settings), _tokens(config))
    _check_grid(tower, source)
    return tower


def _of_transformers(folder: Path, shards: Shards) -> tuple[Any, dict[str, LazyTensor]]:
    config = AutoConfig.from_pretrained(folder)
    config = getattr(config, "vision_config", config)
    if config.model_type.startswith("siglip"):
        config.vision_use_head = False  # it pools patches for contrastive learning
    wanted = expected_shapes(config)
    for prefix in _PREFIXES:
        if all(f"{prefix}{name}" in shards for name in wanted):
            return config, {name: shards.planned(f"{prefix}{name}") for name in wanted}
    missing = [name for name in wanted if not any(f"{p}{name}" in shards for p in _PREFIXES)]
    raise UserError(
        f"{folder} lacks weights that a {config.model_type!r} encoder has: "
        f"{', '.join(missing[:3]) or 'they lie under several prefixes'}"
    )


def expected_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of `config`'s encoder, built on the meta device."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _tokens(config: Any) -> int:
    """States that the encoder makes of a tile; it is run on shapes alone."""
    side = _side(config.image_size, "image_size")
    with torch.device("meta"), torch.no_grad():
        tile = torch.empty(1, config.num_channels, side, side)
        return AutoModel.from_config(config)(pixel_values=tile).last_hidden_state.shape[1]


def _check_grid(tower: Tower, source: Path | str) -> None:
    if tower.tokens - tower.grid**2 not in (0, 1):
        raise UserError(
            f"{source} makes {tower.tokens} states of {tower.grid} x {tower.grid} patches; there "
            "may be one a patch, and one before them"
        )
    if tower.grid % PIXEL_SHUFFLE:
        raise UserError(
            f"{source} cuts its {tower.image_size}-pixel tiles into {tower.grid} x {tower.grid} "
            f"patches, which do not fold {PIXEL_SHUFFLE} by {PIXEL_SHUFFLE} into image tokens; "
            "take an encoder with an even number of patches a side"
        )


def _side(size: Any, name: str) -> int:
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1:
        raise UserError(f"{name}={size} is not a square; tiles and patches must be")
    return int(sides.pop())


def is_internvl(tower: Tower) -> bool:
    """Whether it is InternVL's own encoder, for which engines have code of their own."""
    return isinstance(tower.config, InternVLVisionConfig)
