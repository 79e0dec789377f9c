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

from rl.console.errors import UserError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's colours, in [0, 1]."""

# Texts on which a saved tokenizer must agree with the one it was made from.
_PROBES = (
    "<think>\nI see 3, 5. 3+5=8\n</think>\n\n\\boxed{8}",
    "  Naïve\tcafé, 12345.678 — x²≥√y;\n\n\n    def f(a_b): return a_b != 'ü'",
    "图中有多少个三角形 Сколько? كم 😀👍🏽 don't we'LL",
)


def image_processor(
    side: int, tiles: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> GotOcr2ImageProcessor:
    """Cuts an image into square tiles by closest aspect ratio, and adds a thumbnail where there is
    more than one (paper, section 2.1).

    Args:
        side: side of a tile, pixels.
        tiles: fewest and most tiles.
        mean, std: subtracted from and divided by, for each colour in [0, 1].
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
    """Turns chat messages and images into a model's inputs; an image is `image_seq_length` tokens a
    tile."""
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
    """Settings of the image processor saved in `folder`; empty if there is none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            settings = json.loads((folder / name).read_text("utf-8"))
            return settings if name.startswith("pre") else settings.get("image_processor", {})
    return {}


def pixel_statistics(settings: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of an image processor's settings, or ImageNet's."""
    if "image_mean" in settings and "image_std" in settings:
        return tuple(settings["image_mean"]), tuple(settings["image_std"])
    return IMAGENET


def faithful_tokenizer(folder: Path, config: Any = None, **options: Any) -> Any:
    """The tokenizer in `folder`, of a class that cuts text as its tokenizer.json says.

    transformers picks the class by the kind of model, which is wrong for some published models, so
    its choice is compared with the file.

    Args:
        config: the model's config, where transformers cannot read it from `folder`.
        options: of `from_pretrained`.
    """
    picked = AutoTokenizer.from_pretrained(folder, config=config, **options)
    file = folder / "tokenizer.json"
    if file.is_file():
        cut = Tokenizer.from_file(str(file))
        for text in _PROBES:
            if _ids(picked, text) != cut.encode(text, add_special_tokens=False).ids:
                return PreTrainedTokenizerFast.from_pretrained(folder, **options)
    return picked


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def check_tokenizer(own: Any, saved: Path) -> None:
    """Raise ValueError unless the tokenizer read back from `saved` cuts text as `own` does.

    transformers chooses the class that reads it by the kind of model it lies beside.
    """
    read = AutoTokenizer.from_pretrained(saved, trust_remote_code=True)  # we wrote it
    for text in _PROBES:
        wanted, got = _ids(own, text), _ids(read, text)
        if wanted != got:
            raise UserError(
                f"the tokenizer of {own.name_or_path} ({type(own).__name__}) is read back as a "
                f"{type(read).__name__}, which cuts {text!r} into {got} where {wanted} was right; "
                "load and save it as a PreTrainedTokenizerFast first"
            )
