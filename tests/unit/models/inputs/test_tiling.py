"""Image tokens of any size are those of transformers' own processor, and of the paper's rule."""

import random
from pathlib import Path

import pytest
from PIL import Image

from configs.schema.data import PromptConfig
from models.inputs.encoder import InputEncoder
from rl.data.records import Problem
from tests.unit.step_samples import png
from tests.vision_families import build_qwen2_5_vl, build_tiled_internvl

TILE, TOKENS, MOST = 56, 4, 12


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> InputEncoder:
    """InternVL's tiling as R1V has it: 1 to 12 tiles and a thumbnail, with small tiles."""
    folder = tmp_path_factory.mktemp("tiled")
    build_tiled_internvl(folder, TILE, MOST)
    return encoder_of(folder)


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> InputEncoder:
    """Qwen2.5-VL, whose images are not cut, but brought to whole patches."""
    folder = tmp_path_factory.mktemp("patched")
    build_qwen2_5_vl(folder)
    return encoder_of(folder)


def encoder_of(folder: Path) -> InputEncoder:
    return InputEncoder(folder, PromptConfig(), trust_remote_code=False)


def sizes() -> list[tuple[int, int]]:
    """200 sizes, widths and heights; some lie just between two grids."""
    chance = random.Random(0)
    drawn = [(chance.randint(30, 700), chance.randint(30, 700)) for _ in range(180)]
    # 3:2 is as far from 1:1 as from 2:1, 5:2 from 2:1 and 3:1; size decides.
    shapes = ((3, 2), (5, 2), (1, 1), (2, 1))
    return drawn + [(w * k, h * k) for w, h in shapes for k in (20, 28, 40, 90, 150)]


def processed(encoder: InputEncoder, size: tuple[int, int]) -> list[int]:
    """The ids that the whole processor makes of one image, its pixels worked out."""
    made = encoder.processor(
        text=encoder.processor.image_token,
        images=[Image.new("RGB", size)],
        add_special_tokens=False,
        return_tensors="pt",
    )
    return made["input_ids"][0].tolist()


def tiles_by_the_paper(size: tuple[int, int]) -> int:
    """Grids by area; the closest shape, on a tie the larger if the image fills half of it."""
    width, height = size
    grids = [(c, r) for c in range(1, MOST + 1) for r in range(1, MOST + 1) if c * r <= MOST]
    best, gap = (1, 1), float("inf")
    for cols, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        off = abs(width / height - cols / rows)
        fills = width * height > 0.5 * TILE * TILE * cols * rows
        if off < gap or (off == gap and fills):
            best, gap = (cols, rows), off
    cut = best[0] * best[1]
    return cut + 1 if cut > 1 else 1  # the thumbnail


@pytest.mark.parametrize("kind", ["tiled", "patched"])
def test_200_sizes_take_the_tokens_of_transformers_own_processor(
    kind: str, request: pytest.FixtureRequest
) -> None:
    encoder: InputEncoder = request.getfixturevalue(kind)
    empty = encoder.measure(Problem("p", "?", ("1",)))
    for size in sizes():
        expected = processed(encoder, size)
        picture = Problem("p", "?", ("1",), (png(*size),))
        assert list(encoder._expansion(size)) == expected, size
        # The template's own marks around a picture are no part of its expansion.
        template = len(encoder.short_ids(picture)) - 1 - empty
        assert encoder.measure(picture) == empty + template + len(expected), size


def test_tiles_are_cut_by_the_rule_of_the_paper(tiled: InputEncoder) -> None:
    for size in sizes():
        marks = tiled._expansion(size).count(tiled.processor.image_token_id)
        assert marks == TOKENS * tiles_by_the_paper(size), size


def test_a_tile_of_448_pixels_is_256_tokens_and_an_image_of_12_tiles_3328(tmp_path: Path) -> None:
    build_tiled_internvl(tmp_path, tile=448, most=12)
    encoder = encoder_of(tmp_path)
    start, *marks, end = encoder._expansion((1999, 1500))
    assert set(marks) == {encoder.processor.image_token_id} and len(marks) == 3328
    assert encoder.tokenizer.convert_ids_to_tokens([start, end]) == ["<img>", "</img>"]
    assert len(encoder._expansion((448, 448))) == 256 + 2
