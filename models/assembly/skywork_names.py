"""Names of tensors in the `*ChatModel` layout (Skywork R1V, InternVL) and in transformers.

The language model is called alike in both, as transformers writes it to disk. The projector and
the blocks of the vision tower are renamed; the tower's query, key and value weights are one tensor
there and three here (paper, sections 6.3 and 6.5).
"""

import re
from collections.abc import Mapping

import torch

from models.assembly.shards import LazyTensor, Shards

_PROJECTOR = {
    "mlp1.0.": "multi_modal_projector.layer_norm.",
    "mlp1.1.": "multi_modal_projector.linear_1.",
    "mlp1.3.": "multi_modal_projector.linear_2.",
}
_EMBEDDINGS = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.patch_embedding.weight": "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embedding.bias": "embeddings.patch_embeddings.projection.bias",
    "embeddings.position_embedding": "embeddings.position_embeddings",
}
_BLOCK = {
    "attn.proj.weight": "attention.projection_layer.weight",
    "attn.proj.bias": "attention.projection_layer.bias",
    "attn.q_norm.weight": "attention.q_norm.weight",
    "attn.k_norm.weight": "attention.k_norm.weight",
    "mlp.fc1.weight": "mlp.fc1.weight",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.weight": "mlp.fc2.weight",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "norm1.weight": "layernorm_before.weight",
    "norm1.bias": "layernorm_before.bias",
    "norm2.weight": "layernorm_after.weight",
    "norm2.bias": "layernorm_after.bias",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
}
_QKV = re.compile(r"attn\.qkv\.(weight|bias)")
_ONE_OF_QKV = re.compile(r"attention\.([qkv])_proj\.(weight|bias)")
_CHAT_BLOCK = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_OUR_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
# Forms that transformers' own versions gave to the same checkpoint.
_OLDER_AND_NEWER = (
    (re.compile(r"^model\.language_model\."), "language_model.model."),
    (re.compile(r"^model\.(vision_tower|multi_modal_projector)\."), r"\1."),
    (re.compile(r"^lm_head\."), "language_model.lm_head."),
    (re.compile(r"^language_model\.(?!model\.|lm_head\.)"), "language_model.model."),
)
_IN_MODULE = {
    "language_model.lm_head.": "lm_head.",
    "language_model.model.": "model.language_model.",
    "vision_tower.": "model.vision_tower.",
    "multi_modal_projector.": "model.multi_modal_projector.",
}


class Unmapped(ValueError):
    """Tensors or settings that the other layout has no place for."""


def on_disk(name: str) -> str:
    """The name under which transformers' InternVL saves what any version of it calls `name`."""
    for form, written in _OLDER_AND_NEWER:
        name, changed = form.subn(written, name)
        if changed:
            break
    return name


def in_module(name: str) -> str:
    """The name that the module itself gives to what is `name` on disk."""
    for start, inner in _IN_MODULE.items():
        if name.startswith(start):
            return inner + name.removeprefix(start)
    return name


def tower_as_transformers(shards: Shards, prefix: str) -> dict[str, LazyTensor]:
    """The tower whose names begin with `prefix` in the chat layout, by transformers' names.

    Raises:
        Unmapped: with all names that are not known.
    """
    plan: dict[str, LazyTensor] = {}
    unknown: list[str] = []
    for name in shards:
        if not name.startswith(prefix):
            continue
        inner = name.removeprefix(prefix)
        block = _CHAT_BLOCK.fullmatch(inner)
        if inner in _EMBEDDINGS:
            plan[_EMBEDDINGS[inner]] = shards.planned(name)
        elif block and block[2] in _BLOCK:
            plan[f"encoder.layer.{block[1]}.{_BLOCK[block[2]]}"] = shards.planned(name)
        elif block and (fused := _QKV.fullmatch(block[2])):
            for third, letter in enumerate("qkv"):
                target = f"encoder.layer.{block[1]}.attention.{letter}_proj.{fused[1]}"
                plan[target] = _third(shards, name, third)
        else:
            unknown.append(name)
    _refuse(unknown, "transformers' InternVL tower")
    return plan


def tower_as_chat(shards: Shards, names: Mapping[str, str]) -> dict[str, LazyTensor]:
    """The tower by its names in the chat layout; `names`: transformers' name to the file's.

    Raises:
        Unmapped: with all names that are not known, or whose two siblings are missing.
    """
    embeddings = {ours: theirs for theirs, ours in _EMBEDDINGS.items()}
    blocks = {ours: theirs for theirs, ours in _BLOCK.items()}
    plan: dict[str, LazyTensor] = {}
    unknown: list[str] = []
    for inner, name in names.items():
        block = _OUR_BLOCK.fullmatch(inner)
        one = _ONE_OF_QKV.fullmatch(block[2]) if block else None
        if inner in embeddings:
            plan[embeddings[inner]] = shards.planned(name)
        elif block and block[2] in blocks:
            plan[f"encoder.layers.{block[1]}.{blocks[block[2]]}"] = shards.planned(name)
        elif block and one:
            form = f"encoder.layer.{block[1]}.attention.{{}}_proj.{one[2]}"
            siblings = [names.get(form.format(letter)) for letter in "qkv"]
            held = [sibling for sibling in siblings if sibling is not None]
            if len(held) < 3:
                unknown.append(name)
                continue
            plan[f"encoder.layers.{block[1]}.attn.qkv.{one[2]}"] = _fused(shards, held)
        else:
            unknown.append(name)
    _refuse(unknown, "the chat layout's tower")
    return plan


def as_transformers(shards: Shards) -> dict[str, LazyTensor]:
    """A checkpoint in the chat layout by the names that transformers saves.

    Raises:
        Unmapped: with all names that are not known.
    """
    plan = {
        f"vision_tower.{name}": tensor
        for name, tensor in tower_as_transformers(shards, "vision_model.").items()
    }
    unknown: list[str] = []
    for name in shards:
        if name.startswith("vision_model."):
            continue
        target = _renamed(name, _PROJECTOR)
        if target is None:
            unknown.append(name)
        else:
            plan[target] = shards.planned(name)
    _refuse(unknown, "transformers' InternVL")
    return plan


def as_chat(shards: Shards) -> dict[str, LazyTensor]:
    """A transformers InternVL checkpoint by its names in the chat layout.

    Raises:
        Unmapped: with all names that are not known.
    """
    names = {on_disk(name): name for name in shards}
    start = "vision_tower."
    tower = {n.removeprefix(start): of for n, of in names.items() if n.startswith(start)}
    plan = {f"vision_model.{n}": tensor for n, tensor in tower_as_chat(shards, tower).items()}
    back = {ours: theirs for theirs, ours in _PROJECTOR.items()}
    unknown: list[str] = []
    for name, of in names.items():
        if name.startswith(start):
            continue
        target = _renamed(name, back)
        if target is None:
            unknown.append(of)
        else:
            plan[target] = shards.planned(of)
    _refuse(unknown, "the chat layout")
    return plan


def _renamed(name: str, projector: Mapping[str, str]) -> str | None:
    if name.startswith(("language_model.model.", "language_model.lm_head.")):
        return name
    for start, other in projector.items():
        if name.startswith(start):
            return other + name.removeprefix(start)
    return None


def _third(shards: Shards, name: str, third: int) -> LazyTensor:
    rows, *rest = shards.shapes[name]
    size = rows // 3

    def make() -> torch.Tensor:
        return shards.rows(name, third * size, (third + 1) * size)

    return LazyTensor((size, *rest), shards.dtypes[name], make)


def _fused(shards: Shards, names: list[str]) -> LazyTensor:
    rows = sum(shards.shapes[name][0] for name in names)
    rest = shards.shapes[names[0]][1:]
    return LazyTensor(
        (rows, *rest),
        shards.dtypes[names[0]],
        lambda: torch.cat([shards.read(name) for name in names]),
    )


def _refuse(unknown: list[str], layout: str) -> None:
    if unknown:
        raise Unmapped(
            f"{len(unknown)} tensors have no place in {layout}: {', '.join(unknown[:20])}"
            + (", ..." if len(unknown) > 20 else "")
        )
