"""What is wrong with a recipe, in words for the person who wrote it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from configs.loading import yaml12
from configs.loading.fields import FieldDoc
from configs.loading.suggest import closest_match, current_name


def explain(
    error: ValidationError, tree: Any, known: Sequence[FieldDoc], place: Callable[[str], str]
) -> list[str]:
    """Each fault in `error` as: field, its place, what is wrong with which value, what to do.

    `tree` is what was validated; `place` says where the field of a dotted name was written.
    """
    by_name = {field.name: field for field in known}
    faults: list[str] = []
    for fault in error.errors(include_url=False):
        if fault["type"] == "default_factory_not_called":
            continue  # its default waits for another field, whose fault is told
        name = _dotted(fault["loc"], tree)
        if fault["type"] == "extra_forbidden":
            faults.extend(
                f"{wrong} ({place(wrong)}): there is no such field; {_instead(wrong, by_name)}"
                for wrong in _leaves(name, fault["input"])
            )
        elif fault["type"] == "value_error":
            reason = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{name} ({place(name)}): {reason}" if name else reason)
        else:
            meaning = by_name[name].meaning if name in by_name else ""
            faults.append(
                f"{name} ({place(name)}): {_wrong(fault, name, known)}"
                + (f" [{meaning}]" if meaning else "")
            )
    return faults


def _instead(wrong: str, known: Collection[str]) -> str:
    renamed = current_name(wrong)
    if renamed != wrong and renamed in known:
        return f"it is now called {renamed}"
    hint = closest_match(wrong, known)
    return f"did you mean {hint}?" if hint else "--help lists those there are"


def _wrong(fault: ErrorDetails, name: str, known: Sequence[FieldDoc]) -> str:
    value = yaml12.to_inline_yaml(fault["input"])
    value = value if len(value) <= 80 else f"{value[:77]}..."
    if fault["type"] == "missing":
        if isinstance(fault["loc"][-1], int):
            return f"is {value}, which has too few items; add what is missing"
        return "is not set and has no default; set it"
    if fault["type"] == "model_type":
        below = (field.name for field in known if field.name.startswith(f"{name}."))
        return f"is {value}, but it is a section; set its fields, such as {next(below)}"
    rule = fault["msg"].replace("Input should be", "must be")
    if fault["type"] == "string_type":
        rule += """; put it in quotes, on the command line as '"..."'"""
    return f"is {value}, but {rule}"


def _dotted(loc: Sequence[int | str], tree: Any) -> str:
    """The recipe's name for a pydantic location, which also holds list places and union tags."""
    parts: list[str] = []
    for number, part in enumerate(loc):
        if isinstance(part, int):
            break
        if isinstance(tree, Mapping) and part in tree:
            tree = cast("Mapping[str, Any]", tree)[part]
        elif number < len(loc) - 1:  # the tag of a union; only the last part can be missing
            continue
        parts.append(part)
    return ".".join(parts)


def _leaves(name: str, value: Any) -> list[str]:
    if not isinstance(value, Mapping) or not value:
        return [name]
    below = cast("Mapping[Any, Any]", value)
    return [leaf for key, inner in below.items() for leaf in _leaves(f"{name}.{key}", inner)]
