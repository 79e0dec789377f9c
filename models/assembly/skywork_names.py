"""Names of tensors in the `*ChatModel` layout (Skywork R1V, InternVL) and in transformers.

The language model is called alike in both, as transformers writes it to disk. The projector and
the blocks of the vision tower are renamed; the tower's query, key and value weights are one tensor
there and three here (paper, sections 6.3 and 6.5).
"""

import re
from collections.abc import Mapping

import torch

from models.assembly.shards import LazyTensor, Shards

_TOWER, _OUR_TOWER = "vision_model.", "vision_tower."
_OTHERS = {
    "mlp1.0.": "multi_modal_projector.layer_norm.",
    "mlp1.1.": "multi_modal_projector.linear_1.",
    "mlp1.3.": "multi_modal_projector.linear_2.",
    "language_model.model.": "language_model.model.",
    "language_model.lm_head.": "language_model.lm_head.",
}
"""Beginnings of the names of projector and language model: the chat layout's, transformers'."""
_TOWER_NAMES = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.patch_embedding.": "embeddings.patch_embeddings.projection.",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "encoder.layers.N.attn.proj.": "encoder.layer.N.attention.projection_layer.",
    "encoder.layers.N.attn.q_norm.": "encoder.layer.N.attention.q_norm.",
    "encoder.layers.N.attn.k_norm.": "encoder.layer.N.attention.k_norm.",
    "encoder.layers.N.mlp.fc1.": "encoder.layer.N.mlp.fc1.",
    "encoder.layers.N.mlp.fc2.": "encoder.layer.N.mlp.fc2.",
    "encoder.layers.N.norm1.": "encoder.layer.N.layernorm_before.",
    "encoder.layers.N.norm2.": "encoder.layer.N.layernorm_after.",
    "encoder.layers.N.ls1": "encoder.layer.N.lambda_1",
    "encoder.layers.N.ls2": "encoder.layer.N.lambda_2",
}
"""The same for the tower; N is a block's number."""
_BLOCK_NUMBER = re.compile(r"(encoder\.layers?\.)(\d+)\.")
_QKV = re.compile(r"encoder\.layers\.(\d+)\.attn\.qkv\.(weight|bias)")
_ONE_OF_QKV = re.compile(r"encoder\.layer\.(\d+)\.attention\.[qkv]_proj\.(weight|bias)")
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
    """The name that the module itself gives to the tensor called `name` on disk."""
    return _moved(name, _IN_MODULE) or name


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
        if target := _renamed(inner, _TOWER_NAMES):
            plan[target] = shards.planned(name)
        elif fused := _QKV.fullmatch(inner):
            for third, letter in enumerate("qkv"):
                target = f"encoder.layer.{fused[1]}.attention.{letter}_proj.{fused[2]}"
                plan[target] = _third(shards, name, third)
        else:
            unknown.append(name)
    _refuse(unknown, "transformers' InternVL tower")
    return plan


def _tower_as_chat(shards: Shards, names: Mapping[str, str]) -> dict[str, LazyTensor]:
    """The tower by its names in the chat layout; `names`: transformers' name to the file's."""
    back = {ours: theirs for theirs, ours in _TOWER_NAMES.items()}
    plan: dict[str, LazyTensor] = {}
    unknown: list[str] = []
    for inner, name in names.items():
        if target := _renamed(inner, back):
            plan[target] = shards.planned(name)
        elif one := _ONE_OF_QKV.fullmatch(inner):
            form = f"encoder.layer.{one[1]}.attention.{{}}_proj.{one[2]}"
            three = [names[other] for other in map(form.format, "qkv") if other in names]
            if len(three) == 3:
                plan[f"encoder.layers.{one[1]}.attn.qkv.{one[2]}"] = _fused(shards, three)
            else:
                unknown.append(name)
        else:
            unknown.append(name)
    _refuse(unknown, "the chat layout's tower")
    return plan


def as_transformers(shards: Shards) -> dict[str, LazyTensor]:
    """A checkpoint in the chat layout by the names that transformers saves.

    Raises:
        Unmapped: with all names that are not known.
    """
    tower = tower_as_transformers(shards, _TOWER)
    others = {name: name for name in shards if not name.startswith(_TOWER)}
    plan = {_OUR_TOWER + name: tensor for name, tensor in tower.items()}
    return plan | _plan_others(shards, others, _OTHERS, "transformers' InternVL")


def as_chat(shards: Shards) -> dict[str, LazyTensor]:
    """A transformers InternVL checkpoint by its names in the chat layout.

    Raises:
        Unmapped: with all names that are not known, and those of query, key and value weights that
            are not complete.
    """
    tower: dict[str, str] = {}
    others: dict[str, str] = {}
    for name in shards:
        written = on_disk(name)
        if written.startswith(_OUR_TOWER):
            tower[written.removeprefix(_OUR_TOWER)] = name
        else:
            others[written] = name
    plan = {_TOWER + name: tensor for name, tensor in _tower_as_chat(shards, tower).items()}
    back = {ours: theirs for theirs, ours in _OTHERS.items()}
    return plan | _plan_others(shards, others, back, "the chat layout")


def _plan_others(
    shards: Shards, names: Mapping[str, str], starts: Mapping[str, str], layout: str
) -> dict[str, LazyTensor]:
    """Tensors by their names in `layout`; `names`: the name to move to the file's."""
    targets = {of: _moved(name, starts) for name, of in names.items()}
    _refuse([of for of, target in targets.items() if target is None], layout)
    return {target: shards.planned(of) for of, target in targets.items() if target is not None}


def _renamed(name: str, starts: Mapping[str, str]) -> str | None:
    """`_moved` for a tower's tensor, whose block's number stands for N."""
    target = _moved(_BLOCK_NUMBER.sub(r"\1N.", name), starts)
    number = _BLOCK_NUMBER.match(name)
    return target.replace(".N.", f".{number[2]}.") if target and number else target


def _moved(name: str, starts: Mapping[str, str]) -> str | None:
    """`name` with another beginning; None where `starts` has none of it."""
    for start, other in starts.items():
        if name.startswith(start):
            return other + name.removeprefix(start)
    return None


def _third(shards: Shards, name: str, third: int) -> LazyTensor:
    """Third 0, 1 or 2 of the rows of a fused weight or bias."""
    rows, *rest = shards.shapes[name]
    size = rows // 3

    def make() -> torch.Tensor:
        return shards.rows(name, third * size, (third + 1) * size)

    return LazyTensor((size, *rest), shards.dtypes[name], make)


def _fused(shards: Shards, names: list[str]) -> LazyTensor:
    """The rows of three weights or biases, one after another."""
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
