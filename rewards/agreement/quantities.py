"""Numbers with a unit, a percent or a degree sign behind them, and whether they are the same."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction

from rewards.reading.tree import Node, integer, symbols
from rewards.reading.words import DERIVED, SQUARES, unit_of

_PIECE = re.compile(r"[^\s/·]+|/")
_LETTERS = frozenset(
    ("m", "g", "s", "h", "V", "A", "W", "N", "J", "L", "K", "C", "F", "T", "H", "l", "Omega", "mu")
)
_HIGHEST_POWER = 9
_BINDING = frozenset(("per", "of", "the", "long", "wide", "tall", "high", "each", "total"))


def bare(node: Node) -> tuple[Node, str]:
    """The value of a quantity and its unit; a unit of no quantity is empty."""
    if node.kind == "quantity":
        return node.parts[0], node.name
    if node.kind == "negate":
        value, unit = bare(node.parts[0])
        if value.kind in ("percent", "degrees"):
            return Node(value.kind, (Node("negate", value.parts),)), unit
        return (Node("negate", (value,)), unit) if unit else (node, "")
    return node, ""


def without_letters(node: Node) -> Node | None:
    """The number before unit letters (`12 m`, `8 V`, `5 m/s^2`), or None where it is no such."""
    letters = symbols(node)
    if not letters or not all(letter in _LETTERS or unit_of(letter) for letter in letters):
        return None
    if node.kind == "quantity":
        return without_letters(node.parts[0]) or node.parts[0]
    if node.kind == "negate":
        inner = without_letters(node.parts[0])
        return None if inner is None else Node("negate", (inner,))
    if node.kind not in ("multiply", "divide"):
        return None
    first, last = node.parts
    if last.kind == "number" or not _only_unit(last):
        return None
    return first if not symbols(first) else without_letters(first)


def lettered(node: Node) -> Node | None:
    """`without_letters`, as a quantity whose unit is those letters."""
    number = without_letters(node)
    if number is None:
        return None
    pieces = [f"{'/' if up < 0 else ''}{name}^{abs(up)}" for name, up in _powers(node, 1)]
    return Node("quantity", (number,), " ".join(sorted(pieces, key=lambda piece: piece[0] == "/")))


def _powers(node: Node, sign: int) -> Iterator[tuple[str, int]]:
    """Unit letters below `node` with their powers."""
    if node.kind == "symbol":
        yield node.name, sign
    elif node.kind == "power" and symbols(node):
        power = node.parts[1].parts[0] if node.parts[1].kind == "negate" else node.parts[1]
        times = int(power.value or 1) * (-1 if node.parts[1].kind == "negate" else 1)
        yield from ((name, up * times) for name, up in _powers(node.parts[0], sign))
    elif node.kind in ("multiply", "negate", "divide"):
        yield from _powers(node.parts[0], sign)
        for part in node.parts[1:]:
            yield from _powers(part, -sign if node.kind == "divide" else sign)


def _only_unit(node: Node) -> bool:
    if node.kind in ("symbol", "multiply", "divide"):
        return node.kind == "symbol" or all(_only_unit(part) for part in node.parts)
    return node.kind == "power" and node.parts[0].kind == "symbol" and not symbols(node.parts[1])


def same_quantity(one: Node, other: Node, equal: Callable[[Node, Node], bool]) -> bool:
    """Whether two scalars with units, percent or degree signs agree.

    A sign or unit on one side only is not compared. Units of one dimension are converted,
    those of different ones differ, but for plain `units`; the same number with quite other words
    behind it is another answer.
    """
    (first, unit), (second, other_unit) = bare(one), bare(other)
    if unit and other_unit:
        sizes = _size(unit), _size(other_unit)
        if sizes[0] and sizes[1] and sizes[0][0] == sizes[1][0]:
            if sizes[0][1] == sizes[1][1]:
                return _same_signed(first, second, equal)
            first, second = _scaled(first, sizes[0][1]), _scaled(second, sizes[1][1])
            return equal(first, second)
        if sizes[0] and sizes[1]:
            return "count" in sizes[0][0] + sizes[1][0] and _same_signed(first, second, equal)
        if not _share_words(unit, other_unit):
            return False
    return _same_signed(first, second, equal)


def quantity_total(parts: tuple[Node, ...]) -> Node | None:
    """`3 hours 20 minutes` as one number of the smallest kind; None where the units do not add."""
    total: list[Node] = []
    dimensions: set[str] = set()
    for part in parts:
        value, unit = bare(part)
        size = _size(unit) if unit else None
        if size is None:
            return None
        dimensions.add(size[0])
        total.append(_scaled(value, size[1]))
    if len(dimensions) != 1:
        return None
    return Node("add", tuple(total))


def in_base_units(node: Node) -> Node | None:
    """The value of one quantity times the size of its unit."""
    value, unit = bare(node)
    size = _size(unit) if unit else None
    return None if size is None else _scaled(value, size[1])


def _scaled(value: Node, size: Fraction) -> Node:
    return value if size == 1 else Node("multiply", (value, Node("number", value=size)))


def _same_signed(one: Node, other: Node, equal: Callable[[Node, Node], bool]) -> bool:
    """Percent signs: equal to the number or to its hundredth; degrees: to the number or radians."""
    for sign in ("percent", "degrees"):
        if one.kind == sign and other.kind == sign:
            return equal(one.parts[0], other.parts[0])
    if "percent" in (one.kind, other.kind):
        if one.kind != "percent":
            one, other = other, one
        inner = one.parts[0]
        return equal(inner, other) or equal(Node("divide", (inner, integer(100))), other)
    if "degrees" in (one.kind, other.kind):
        inner, outer = (one.parts[0], other) if one.kind == "degrees" else (other.parts[0], one)
        return equal(inner, outer) or equal(Node("degrees", (inner,)), outer)
    return equal(one, other)


def _size(unit: str) -> tuple[str, Fraction] | None:
    """Dimension and size of a unit with its powers; None where a word of it is unknown."""
    powers: Counter[str] = Counter()
    size, sign, square = Fraction(1), 1, ""
    for piece in _PIECE.findall(unit.replace(" per ", "/")):
        if piece == "/":
            sign = -1
            continue
        if piece.casefold() in SQUARES:
            square = SQUARES[piece.casefold()]
            continue
        if piece in ("cdot", "-") or piece.casefold() in _BINDING:
            continue
        word, _, power = piece.partition("^")
        known = unit_of(word)
        if known is None or not (power or "1").lstrip("-").isdigit():
            return None
        times = sign * int(power or square or 1)
        if abs(times) > _HIGHEST_POWER:
            return None
        square = ""
        parts, factor = DERIVED.get(known[0], ({known[0]: 1}, Fraction(1)))
        for dimension, up in parts.items():
            powers[dimension] += times * up
        size *= (known[1] * factor) ** times
    named = sorted(f"{name}^{up}" for name, up in powers.items() if up)
    return (" ".join(named), size) if named else None


def _share_words(one: str, other: str) -> bool:
    first, second = ({_stem(word) for word in re.findall(r"\w+", text)} for text in (one, other))
    return bool(first <= second or second <= first)


def _stem(word: str) -> str:
    word = word.casefold()
    return word.removesuffix("s") if len(word) > 3 else word
