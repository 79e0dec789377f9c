"""Distilled chains as parquet files of chats, their images by reference in a folder beside them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from configs.schema.data import ChatDataConfig, PromptConfig
from rl.data.images import image_format
from rl.data.records import Problem
from rl.storage.atomic import atomic_file, link_or_copy

CHATS, IMAGES = "chats", "images"
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int8())])
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("images", pa.list_(pa.string())),
        ("answer", pa.list_(pa.string())),
        ("provenance", pa.string()),
        ("tokens", pa.int32()),
        ("penalty", pa.float64()),
        ("vision_score", pa.float64()),
        ("text_score", pa.float64()),
        ("integration_score", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of thought with its answer, found right, and where it comes from."""

    text: str
    provenance: str
    """`policy`, `teacher`, or `judge` where a served teacher rewrote it."""
    tokens: int
    penalty: float
    scores: Mapping[str, float]
    """vision, text and integration; raw."""


def write_shard(
    folder: Path, shard: int, chains: Sequence[tuple[Problem, Chain]], prompt: PromptConfig
) -> Path:
    """Write one parquet file of `folder`/chats, whole or not at all, and its images.

    Columns: id; messages (system where the recipe has one, the question with its suffix, the
    chain); images (paths in `folder`/images); answer (all forms that are right); provenance;
    tokens; penalty; vision_score, text_score, integration_score.
    """
    (folder / CHATS).mkdir(parents=True, exist_ok=True)
    rows = [_row(folder / IMAGES, problem, chain, prompt) for problem, chain in chains]
    path = folder / CHATS / f"train-{shard:05d}.parquet"
    with atomic_file(path) as aside:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), aside)  # pyright: ignore[reportUnknownMemberType]
    return path


def chats_of(folder: Path) -> ChatDataConfig:
    """The data section of a supervised recipe that learns the chains in `folder`."""
    return ChatDataConfig(
        source=str(folder / CHATS),
        format="messages",
        id_column="id",
        image_column="images",
        image_folder=folder / IMAGES,
    )


def _row(images: Path, problem: Problem, chain: Chain, prompt: PromptConfig) -> dict[str, Any]:
    suffix = f"\n{prompt.suffix}" if prompt.suffix else ""
    before = [{"role": turn.role, "content": turn.text, "weight": 0} for turn in problem.context]
    if prompt.system is not None and all(turn["role"] != "system" for turn in before):
        before = [{"role": "system", "content": prompt.system}, *before]
    return {
        "id": problem.id,
        "messages": [
            *before,
            {"role": "user", "content": problem.question + suffix},
            {"role": "assistant", "content": chain.text},
        ],
        "images": [_keep(images, image) for image in problem.images],
        "answer": list(problem.gold),
        "provenance": chain.provenance,
        "tokens": chain.tokens,
        "penalty": chain.penalty,
        **{f"{name}_score": value for name, value in chain.scores.items()},
    }


def _keep(folder: Path, image: bytes | str) -> str:
    """The name in `folder` of the image, which is put there once, by its content or its path."""
    folder.mkdir(parents=True, exist_ok=True)
    content = image if isinstance(image, bytes) else str(image).encode()
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    ending = f".{image_format(image)}" if isinstance(image, bytes) else Path(image).suffix
    path = folder / f"{digest}{ending}"
    if not path.is_file():
        with atomic_file(path) as aside:
            if isinstance(image, bytes):
                aside.write_bytes(image)
            else:
                link_or_copy(image, str(aside))
    return path.name
