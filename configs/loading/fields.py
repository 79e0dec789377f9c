"""What a schema's fields are called, and the nearest of those names to a wrong one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from configs.loading import yaml12

REQUIRED = "required"
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_WORDS = {str: "text", int: "int", float: "float", bool: "true | false", Path: "path"}


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """A field of a recipe, or one of its sections."""

    name: str
    """Dotted, from the top of the recipe."""
    kind: str
    """Its type in words; empty for a section."""
    default: str
    """As it would be written in YAML; `required` where there is none."""
    meaning: str


def known_fields(schema: type[BaseModel], prefix: str = "") -> list[FieldDoc]:
    """Fields and sections of `schema`: plain fields first, then each section and its fields."""
    plain: list[FieldDoc] = []
    sections: list[FieldDoc] = []
    for name, field in schema.model_fields.items():
        dotted = f"{prefix}{name}"
        inner = list(_models(field.annotation))
        if not inner:
            kind = _kind(field.annotation) + _bounds(field.metadata)
            plain.append(FieldDoc(dotted, kind, _default(field), _one_line(field.description)))
            continue
        meaning = _one_line(field.description or inner[0].__doc__)
        default = "null" if _is_null(field) else REQUIRED if field.is_required() else ""
        sections.append(FieldDoc(dotted, "", default, meaning))
        for model in inner:
            sections.extend(known_fields(model, f"{dotted}."))
    return plain + sections


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _is_null(field: FieldInfo) -> bool:
    return not field.is_required() and field.get_default(call_default_factory=False) is None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True, validated_data={})
    return yaml12.to_inline_yaml(to_jsonable_python(value))


def _kind(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(args[0]) + _bounds(args[1:])
    if origin is Literal:
        return " | ".join(yaml12.to_inline_yaml(value) for value in args)
    if origin in (Union, UnionType):
        kinds = [_kind(part) for part in args if part is not NoneType]
        return " | ".join(kinds + ["null"] * (NoneType in args))
    if origin is tuple and args[-1] is not Ellipsis:
        return f"list of {len(args)}: {', '.join(_kind(part) for part in args)}"
    if origin in (tuple, list):
        return f"list of {_kind(args[0])}"
    if origin is dict:
        return f"mapping of {_kind(args[0])} to {_kind(args[1])}"
    return _WORDS.get(annotation) or getattr(annotation, "__name__", str(annotation))


def _bounds(metadata: Iterable[object]) -> str:
    rules = [
        rule
        for part in metadata
        for rule in (part.metadata if isinstance(part, FieldInfo) else [part])
    ]
    found = [
        f"{sign} {value:g}"
        for part in rules
        for bound, sign in _BOUNDS.items()
        if (value := getattr(part, bound, None)) is not None
    ]
    return f" {', '.join(found)}" if found else ""


def _one_line(meaning: str | None) -> str:
    return " ".join((meaning or "").split())
