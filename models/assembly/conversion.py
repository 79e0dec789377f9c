"""Checkpoints in the `*ChatModel` layout of Skywork R1V and InternVL, read and written.

One side of a conversion is always transformers' InternVL. Weights go from file to file; there and
back gives the same bits. What the other side cannot hold is refused before anything is written.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, InternVLConfig

from models.assembly.chat_template import placing_images, without_images
from models.assembly.image_tokens import IMAGE_TOKEN, SPECIAL_TOKENS
from models.assembly.processor import (
    IMAGENET,
    check_tokenizer,
    faithful_tokenizer,
    image_processor,
    image_settings,
    pixel_statistics,
    processor,
)
from models.assembly.r1v import HEAD, check_shapes
from models.assembly.shards import GIB, LazyTensor, Shards, copy_files, local_folder, write_shards
from models.assembly.skywork_config import (
    CHAT_TYPES,
    as_chat_config,
    as_transformers_config,
    is_chat,
    tiles_of,
)
from models.assembly.skywork_names import Unmapped, as_chat, as_transformers, on_disk
from rl.console.errors import UserError, as_user_error
from rl.storage.atomic import atomic_folder

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)
_GENERATION = "generation_config.json"
_TEMPLATE = "chat_template.jinja"
_VIDEO_TOKENS = ("<video>", "<|video_pad|>", "<quad>")
"""Tokens that can stand for a video. None is ever shown, but transformers' processor wants one, and
a new token would need a new row of embeddings."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A checkpoint that can be written in the other layout."""

    folder: Path
    """Where it is read from."""
    plan: Mapping[str, LazyTensor]
    """All weights by their names in the other layout."""
    notes: Sequence[str]
    """What is lost or read otherwise in the other layout, for the user."""
    settings: Callable[[Path], None]
    """Writes everything but weights."""

    def write(
        self, out: Path, shard_gib: float, written: Callable[[str], object] = lambda name: None
    ) -> None:
        """Write the folder `out`, whole or not at all; `written` gets each tensor's name."""
        with atomic_folder(out) as aside:
            self.settings(aside)
            code = [file.name for file in self.folder.glob("*.py")]
            copy_files(self.folder, aside, [_GENERATION, *code])
            write_shards(aside, self.plan, int(shard_gib * GIB), written)


@as_user_error()
def plan_conversion(source: Path | str, layout: str) -> Conversion:
    """The conversion of a checkpoint to another layout.

    Args:
        source: a folder or hub name.
        layout: "transformers", "skywork" or "internvl".

    Raises:
        Unmapped: the other layout has no place for some tensors or settings; all are named.
        ValueError: `source` has that layout already, or is neither.
    """
    folder = local_folder(source)
    raw = json.loads((folder / "config.json").read_text("utf-8"))
    kind = raw.get("model_type")
    theirs = is_chat(raw)
    if not theirs and kind != "internvl":
        raise UserError(
            f"{source} is a {kind!r} model; only transformers' internvl, with InternVL's own "
            f"vision encoder, and the *ChatModel layout ({', '.join(CHAT_TYPES)}) are converted"
        )
    if theirs == (layout != "transformers"):
        raise UserError(
            f"{source} has the layout of {kind!r}, so layout={layout} asks for nothing new; ask "
            f"for {'transformers' if theirs else 'skywork or internvl'}"
        )
    return _to_transformers(folder, raw) if theirs else _to_chat(folder, layout)


def _to_transformers(folder: Path, raw: Mapping[str, Any]) -> Conversion:
    config, carried = as_transformers_config(raw)
    shards = Shards(folder)
    plan = as_transformers(shards)
    notes = [f"kept for the way back, unread meanwhile: {', '.join(carried)}"] * bool(carried)
    notes += _drop_tied_head(config, plan)
    check_shapes(config, plan)
    tokenizer = _tokenizer(folder, config.text_config)
    config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    tiles = tiles_of(raw)
    if tiles[1] > 1 and not raw.get("use_thumbnail", False):
        notes.append("use_thumbnail=false: transformers' processor adds a thumbnail all the same")
    template = tokenizer.chat_template and placing_images(tokenizer.chat_template)
    if not template:
        notes.append("no chat template: the tokenizer has none; write chat_template.jinja yourself")
    side = config.vision_config.image_size[0]
    images = image_processor(side, tiles, *pixel_statistics(image_settings(folder)))
    made = processor(images, tokenizer, config.image_seq_length, template)

    def settings(out: Path) -> None:
        config.save_pretrained(out)
        made.save_pretrained(out)
        check_tokenizer(tokenizer, out)

    return Conversion(folder, plan, notes, settings)


def _to_chat(folder: Path, layout: str) -> Conversion:
    shards = Shards(folder)
    config = InternVLConfig.from_pretrained(folder)
    reader: Any = AutoProcessor.from_pretrained(folder)
    images = reader.image_processor
    raw = as_chat_config(config, layout, (images.min_patches, images.max_patches))
    plan = as_chat(shards)
    held = {on_disk(name): shards.planned(name) for name in shards}
    _drop_tied_head(config, held)
    check_shapes(config, held)
    notes = _drop_tied_head(config, plan)
    if (tuple(images.image_mean), tuple(images.image_std)) != IMAGENET:
        notes.append(
            f"pixels of mean {images.image_mean} and spread {images.image_std}: written down in "
            "preprocessor_config.json, but engines take ImageNet's for this layout"
        )
    if "auto_map" not in raw:
        notes.append(
            "no auto_map: transformers and vLLM read this layout's config.json by the code that "
            "published checkpoints bring; copy their *.py files and auto_map"
        )

    def settings(out: Path) -> None:
        (out / "config.json").write_text(json.dumps(raw, indent=2) + "\n", "utf-8")
        copy_files(folder, out, _TOKENIZER_FILES)
        if reader.chat_template:
            (out / _TEMPLATE).write_text(without_images(reader.chat_template), "utf-8")
        images.save_pretrained(out)

    return Conversion(folder, plan, notes, settings)


def _drop_tied_head(config: InternVLConfig, plan: dict[str, LazyTensor]) -> list[str]:
    """Take a head that is tied to the embeddings out of `plan`; returns a note if there was one."""
    if config.tie_word_embeddings and plan.pop(HEAD, None):
        return ["the head's own weights: config.json ties it to the embeddings"]
    return []


def _tokenizer(folder: Path, text: Any) -> Any:
    """The tokenizer of a checkpoint in the chat layout, with the processor's special tokens."""
    known = faithful_tokenizer(folder, text)
    held = known.get_vocab()
    video = next((token for token in _VIDEO_TOKENS if token in held), None)
    if video is None and max(held.values()) + 1 < text.vocab_size:
        video = _VIDEO_TOKENS[0]  # the embedding has a row to spare for it
    if video is None:
        raise Unmapped(
            "transformers' processor needs a token for videos; the tokenizer has none of "
            f"{', '.join(_VIDEO_TOKENS)}, and the embedding has no row to spare"
        )
    special = SPECIAL_TOKENS | {"video_token": video}
    missing = sorted(token for token in special.values() if token not in held and token != video)
    if missing:
        raise Unmapped(f"the tokenizer of {folder} lacks {', '.join(missing)}")
    return faithful_tokenizer(folder, text, extra_special_tokens=special)
