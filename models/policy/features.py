"""What a frozen vision tower makes of images, computed once per distinct image and kept.

A feature is what leaves the last part that is frozen: the tower, after pixel shuffle, or behind it
the projector: float [tiles, tokens, channels] of one image. It is named by a hash of the image's
bytes, of every weight that made it and of the processor's settings, so that another tower or
another tiling never meets it.
"""

import copy
import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from configs.schema.features import FeaturesConfig
from models.inputs.encoder import InputEncoder
from rl.data.records import Chat, Pair, Problem
from rl.storage.atomic import atomic_file

logger = logging.getLogger(__name__)

FEATURES = "features"
"""Where a policy finds them, in place of pixels."""


def vision_inputs(base: Any, pixels: Mapping[str, Tensor]) -> dict[str, Any]:
    """Keyword arguments of a vision-language base: pixels as they are, features projected. A base
    whose projector was taken out with its tower has the identity there."""
    if FEATURES not in pixels:
        return dict(pixels)
    projected = base.multi_modal_projector(pixels[FEATURES])
    return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=projected)}}


def check_kind(model_type: str) -> None:
    """ValueError when features of this kind of model cannot be kept."""
    if model_type != "internvl":
        raise ValueError(
            f"features.keep wants a policy of the InternVL architecture, and this one is "
            f"{model_type!r}, where no single tensor an image passes from tower to projector; set "
            "features.keep=off"
        )


class FrozenTower:
    """The vision tower of a policy, with the projector behind it where that is frozen, too, taken
    out of the policy: no engine shards them, no export forgets them."""

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Take them out of `model`, whose base then wants features.

        `dtype`: their precision from now on; None: as it is.

        Raises:
            ValueError: the model's architecture gives no such features, or a GPU has no number:
                the threads that the tower runs on would take the first one.
        """
        if device.type == "cuda" and device.index is None:
            raise ValueError("the tower's device is a GPU without a number; name it cuda:0, cuda:1")
        check_kind(model.config.model_type)
        self._base = model.model
        projector = self._base.multi_modal_projector
        self.projects = not any(weight.requires_grad for weight in projector.parameters())
        """Whether its features are projected: what the language model reads."""
        self._parts = {"vision_tower": self._base.vision_tower}
        if self.projects:
            self._parts["multi_modal_projector"] = projector
        # transformers' own way from pixels to projected features, with nothing behind what is
        # frozen.
        self._shell = copy.copy(self._base)
        self._shell._modules = dict(self._base._modules)
        for name in ("multi_modal_projector", "language_model"):
            if name not in self._parts:
                setattr(self._shell, name, nn.Identity())
        self._shell.to(device, dtype)
        self._device = device
        self.replace_in(model)

    def replace_in(self, model: Any) -> None:
        """Let `model` be without these parts: its base wants the features."""
        for name in self._parts:
            setattr(model.model, name, nn.Identity())

    @torch.no_grad()
    def __call__(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """float [tiles, tokens, channels] on the device, in its precision."""
        values = pixels["pixel_values"].to(self._device)
        return self._shell.get_image_features(values, return_dict=True).pooler_output

    def weights(self) -> dict[str, Tensor]:
        """Its weights where they are, by the whole model's names."""
        return {
            f"model.{part}.{name}": weight
            for part, module in self._parts.items()
            for name, weight in module.state_dict().items()
        }

    def fingerprint(self, encoder: InputEncoder) -> bytes:
        """Of every weight, and of what the processor makes of an image."""
        digest = hashlib.sha256()
        for name, weight in self.weights().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy())
        digest.update(encoder.processor.image_processor.to_json_string().encode())
        digest.update(f"at most {encoder.max_pixels} pixels".encode())
        return digest.digest()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """For a while the policy is whole, as `save_pretrained` wants it."""
        for name, part in self._parts.items():
            setattr(self._base, name, part)
        try:
            yield
        finally:
            for name in self._parts:
                setattr(self._base, name, nn.Identity())


class FeatureStore(Protocol):
    """Where features are kept."""

    def get(self, key: str) -> Tensor | None: ...
    def put(self, key: str, feature: Tensor) -> None: ...


class MemoryFeatures:
    """Features in this process, up to `max_bytes`.

    What came first stays: passes over the data come round to each image equally often, and throwing
    out the oldest would throw out just what is needed next.
    """

    def __init__(self, max_bytes: int) -> None:
        self._room = max_bytes
        self._kept: dict[str, Tensor] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Tensor | None:
        """The feature, if it is kept."""
        return self._kept.get(key)

    def put(self, key: str, feature: Tensor) -> None:
        """Keep the feature if there is room."""
        with self._lock:
            if key not in self._kept and feature.nbytes <= self._room:
                self._room -= feature.nbytes
                self._kept[key] = feature


class DiskFeatures:
    """Features in a folder that ranks and runs share, one file each, up to `max_bytes` in all."""

    def __init__(self, folder: Path, max_bytes: int, ranks: int) -> None:
        """Each of `ranks` may fill its part of what is free now."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._room = max(0, max_bytes - _bytes_in(folder)) // ranks
        self._lock = threading.Lock()
        self._told = False

    def get(self, key: str) -> Tensor | None:
        """The feature, if it is kept."""
        return _read(self._folder / key)

    def put(self, key: str, feature: Tensor) -> None:
        """Keep the feature if there is room."""
        with self._lock:
            if feature.nbytes > self._room:
                return self._tell_full("features.max_bytes are used up, maybe by other towers'")
            self._room -= feature.nbytes
        try:
            with atomic_file(self._folder / key) as aside:
                save_file({FEATURES: feature.contiguous()}, aside)
        except (OSError, SafetensorError) as error:  # what is not kept is computed again
            self._room = 0
            self._tell_full(f"cannot be written to: {error}")

    def _tell_full(self, why: str) -> None:
        """Say once that nothing more is kept."""
        if not self._told:
            self._told = True
            logger.warning("%s: %s; what is not kept is computed each time", self._folder, why)


def _read(file: Path) -> Tensor | None:
    """The feature in a file; None: there is no such file."""
    try:
        return load_file(file)[FEATURES]
    except FileNotFoundError:
        return None


def feature_key(fingerprint: bytes, image: bytes | str) -> str:
    """The name of an image's feature; `fingerprint`: of what makes it."""
    content = Path(image).read_bytes() if isinstance(image, str) else image
    return hashlib.sha256(fingerprint + content).hexdigest()


@dataclass(frozen=True, slots=True)
class KeptEmbeddings:
    """Where features lie that the language model can read as they are, for who has no tower."""

    folder: Path
    fingerprint: bytes
    """Of what made them."""

    def find(self, images: Sequence[bytes | str]) -> list[tuple[str, Tensor]] | None:
        """Of each image its feature's name and float [tokens, channels], its tiles one behind
        another; None where one of them is not kept yet."""
        found: list[tuple[str, Tensor]] = []
        for image in images:
            key = feature_key(self.fingerprint, image)
            feature = _read(self.folder / key)
            if feature is None:
                return None
            found.append((key, feature.flatten(0, 1)))
        return found


def _bytes_in(folder: Path) -> int:
    """Of its files; those that other runs rename meanwhile count for nothing."""
    total = 0
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            total += entry.stat().st_size
    return total


def feature_store(config: FeaturesConfig, ranks: int) -> FeatureStore | None:
    """Where each of `ranks` keeps the features of images; None: nowhere."""
    if config.keep == "off":
        return None
    if config.keep == "memory":
        return MemoryFeatures(config.max_bytes)
    assert config.folder is not None, "the driver names it"
    return DiskFeatures(config.folder, config.max_bytes, ranks)


class FeatureCache:
    """Images of rows as features: looked up, and computed where they are met first."""

    def __init__(self, tower: FrozenTower, encoder: InputEncoder, store: FeatureStore) -> None:
        self._tower = tower
        self._encoder = encoder
        self._store = store
        self._fingerprint = tower.fingerprint(encoder)
        self._lock = threading.Lock()
        self._found, self._met = 0, 0

    def __call__(self, rows: Sequence[Chat | Pair | Problem]) -> dict[str, Tensor]:
        """The features of all images of `rows`, in order; empty without images."""
        images = [image for row in rows for image in row.images]
        if not images:
            return {}
        keys = [feature_key(self._fingerprint, image) for image in images]
        kept = {key: self._store.get(key) for key in keys}
        missing = {key: image for key, image in zip(keys, images, strict=True) if kept[key] is None}
        with self._lock:
            self._met += len(kept)
            self._found += len(kept) - len(missing)
        made = self._computed(missing)
        return {FEATURES: torch.cat([made[key] if key in made else kept[key] for key in keys])}

    def kept_in(self, folder: Path | None) -> KeptEmbeddings:
        """What is kept in `folder`, for who reads projected features."""
        assert folder is not None, "the driver names it"
        return KeptEmbeddings(folder, self._fingerprint)

    @property
    def counts(self) -> tuple[int, int]:
        """(found, met) images so far."""
        with self._lock:
            return self._found, self._met

    def _computed(self, images: Mapping[str, bytes | str]) -> dict[str, Tensor]:
        """Features of the images by key, made in one pass of the tower, and kept."""
        if not images:
            return {}
        shown = tuple(images.values())
        features = self._tower(self._encoder.pixels([Chat("shown", (), shown)])).cpu()
        tokens = features.shape[1]
        split = features.split([self._encoder.image_tokens(image) // tokens for image in shown])
        made = {key: feature.clone() for key, feature in zip(images, split, strict=True)}
        for key, feature in made.items():
            self._store.put(key, feature)
        return made
