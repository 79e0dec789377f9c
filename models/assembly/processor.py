"""The InternVL processor: tiles, pixel statistics, and the tokens that images expand to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    GotOcr2ImageProcessor,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
)

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and spread of ImageNet's pixels, which InternVL subtracts and divides by."""

# Texts on which a saved tokenizer must agree with the one it was made from.
_PROBES = (
    "<think>\nI see 3, 5. 3+5=8\n</think>\n\n\\boxed{8}",
    "  Naïve\tcafé, 12345.678 — x²≥√y;\n\n\n    def f(a_b): return a_b != 'ü'",
    "图中有多少个三角形 Сколько? كم 😀👍🏽 don't we'LL",
)


def image_processor(
    side: int, tiles: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> GotOcr2ImageProcessor:
    """Cuts an image into `tiles` (fewest, most) squares of `side` pixels by closest aspect ratio.

    A thumbnail joins where there is more than one (paper, section 2.1).
    """
    return GotOcr2ImageProcessor(
        size={"height": side, "width": side},
        crop_to_patches=True,
        min_patches=tiles[0],
        max_patches=tiles[1],
        image_mean=list(mean),
        image_std=list(std),
    )


def processor(
    images: Any, tokenizer: Any, image_seq_length: int, chat_template: str | None
) -> InternVLProcessor:
    """All that turns chat messages and images into a model's inputs."""
    return InternVLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(
            size=dict(images.size), image_mean=images.image_mean, image_std=images.image_std
        ),
        image_seq_length=image_seq_length,
        chat_template=chat_template,
    )


def image_settings(folder: Path) -> Mapping[str, Any]:
    """What the folder's own files say of its image processor; empty where they are silent."""
    file = folder / "preprocessor_config.json"
    if file.is_file():
        return json.loads(file.read_text("utf-8"))
    whole = folder / "processor_config.json"
    if whole.is_file():
        return json.loads(whole.read_text("utf-8")).get("image_processor", {})
    return {}


def pixel_statistics(
    settings: Mapping[str, Any],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread in the settings of an image processor; ImageNet's where there are none."""
    if "image_mean" in settings and "image_std" in settings:
        return tuple(settings["image_mean"]), tuple(settings["image_std"])
    return IMAGENET


def faithful_tokenizer(folder: Path, config: Any = None, **options: Any) -> Any:
    """The tokenizer in `folder` that cuts text as its tokenizer.json says.

    transformers picks a class by the kind of model and, for models whose published class is wrong,
    by their name on the hub, which a folder has not; so what it picks is held against the file.
    """
    picked = AutoTokenizer.from_pretrained(folder, config=config, **options)
    file = folder / "tokenizer.json"
    if file.is_file():
        cut = Tokenizer.from_file(str(file))
        for text in _PROBES:
            right = cut.encode(text, add_special_tokens=False).ids
            if picked(text, add_special_tokens=False)["input_ids"] != right:
                return PreTrainedTokenizerFast.from_pretrained(folder, **options)
    return picked


def check_tokenizer(own: Any, saved: Path) -> None:
    """See that the tokenizer read back from `saved` cuts text as `own` does.

    Which class reads a tokenizer's files is chosen by the kind of model they lie beside, so a
    model in a new folder may be read by another one.

    Raises:
        ValueError: it does not.
    """
    read = AutoTokenizer.from_pretrained(saved, trust_remote_code=True)  # we wrote it
    for text in _PROBES:
        wanted, got = (t(text, add_special_tokens=False)["input_ids"] for t in (own, read))
        if wanted != got:
            raise ValueError(
                f"the tokenizer of {own.name_or_path} ({type(own).__name__}) is read back as a "
                f"{type(read).__name__}, which cuts {text!r} into {got} where {wanted} was right; "
                "load and save it as a PreTrainedTokenizerFast first"
            )
