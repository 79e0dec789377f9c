"""The types of columns, found by looking at every row before any is stored.

Arrow has one type for a place in all rows; readers take it from the first rows and fail, or change
values, where it is another later on.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import datasets  # pyright: ignore[reportMissingTypeStubs]
import pyarrow as pa

Kind = Literal["null", "bool", "int64", "float64", "string", "list", "struct", "json"]
_KINDS: dict[type, Kind] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    list: "list",
    dict: "struct",
}
_MOST_FIELDS = 256
"""A struct of more names is a mapping whose keys are data."""
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_Arrow: Any = pa  # its annotations, and those of the next, are partial
_hub: Any = datasets


class ColumnType:
    """What stands in one place of all rows that were looked at.

    Where values of several types do (whole numbers and others count as two), or whole numbers of
    more than 64 bits, each is stored as the JSON text that it reads back from, as it was.
    """

    def __init__(self) -> None:
        self.kind: Kind = "null"
        self._item: ColumnType | None = None
        self._fields: dict[str, ColumnType] = {}

    def look(self, value: Any) -> None:
        """Take in one more value, of those that JSON has."""
        if value is None or self.kind == "json":
            return
        kind = _KINDS[type(value)]
        if kind == "int64" and not -(2**63) <= value < 2**63:
            kind = "json"
        if kind != self.kind:
            self.kind = kind if self.kind == "null" else "json"
        if self.kind == "list":
            self._item = self._item or ColumnType()
            for each in value:
                self._item.look(each)
        elif self.kind == "struct":
            for name, each in value.items():
                self._fields.setdefault(name, ColumnType()).look(each)
            if not 0 < len(self._fields) <= _MOST_FIELDS:
                self.kind = "json"

    @property
    def mixed(self) -> bool:
        """Whether a JSON text stands somewhere in it."""
        inner = [self._item] if self._item else list(self._fields.values())
        return self.kind == "json" or any(each.mixed for each in inner)

    def stored(self, value: Any) -> Any:
        """`value` as Arrow holds it."""
        if value is None or not self.mixed:
            return value
        if self.kind == "json":
            return json.dumps(value, ensure_ascii=False)
        if self.kind == "list":
            item = cast("ColumnType", self._item)
            return [item.stored(each) for each in value]
        return {name: self._fields[name].stored(each) for name, each in value.items()}

    @property
    def storage(self) -> Any:
        """Arrow's type of what `stored` returns."""
        if self.kind == "json":
            return _Arrow.string()
        if self.kind == "list":
            return _Arrow.list_(self._item.storage if self._item else _Arrow.null())
        if self.kind == "struct":
            return _Arrow.struct([(name, each.storage) for name, each in self._fields.items()])
        return getattr(_Arrow, {"bool": "bool_"}.get(self.kind, self.kind))()

    @property
    def feature(self) -> Any:
        """What `datasets` calls it."""
        if self.kind == "json":
            return _hub.Json()
        if self.kind == "list":
            return _hub.List(self._item.feature if self._item else _hub.Value("null"))
        if self.kind == "struct":
            return {name: each.feature for name, each in self._fields.items()}
        return _hub.Value(self.kind)


def common_feature(one: Any, other: Any) -> Any:
    """The feature that values of both can be stored as; texts where they are of several types."""
    values = isinstance(one, _hub.Value) and isinstance(other, _hub.Value)
    if one == other or not values or other.dtype == "null":
        return one
    if one.dtype == "null":
        return other
    if "int" in one.dtype and "int" in other.dtype:
        return _hub.Value("int64")
    return _hub.Value("string")


def holds_json(feature: Any) -> bool:
    """Whether JSON texts stand somewhere in values of `feature`, of `datasets`."""
    if isinstance(feature, Mapping):
        return any(holds_json(each) for each in cast("Mapping[str, Any]", feature).values())
    inner = getattr(feature, "feature", None)
    return isinstance(feature, _hub.Json) or (inner is not None and holds_json(inner))


def parsed(value: Any, feature: Any) -> Any:
    """The value that was stored as `value` of `feature`."""
    if value is None:
        return None
    if isinstance(feature, _hub.Json):
        return json.loads(value)
    if isinstance(feature, Mapping):
        kinds = cast("Mapping[str, Any]", feature)
        return {name: parsed(each, kinds[name]) for name, each in value.items()}
    inner = getattr(feature, "feature", None)
    return value if inner is None else [parsed(each, inner) for each in value]


def number_of_text(text: str) -> int | float | str:
    """The number that `text` is written as, or `text` where that would not give it back."""
    if _WHOLE.fullmatch(text) and text != "-0":
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if repr(number) == text else text
