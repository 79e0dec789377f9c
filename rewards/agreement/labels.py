"""Times of day and numerals in a base: digits whose writing counts, not only their value."""

from rewards.reading.tree import Node


def is_clock(node: Node) -> bool:
    """Whether a ratio of two numbers may be a time of day."""
    values = [part.value for part in node.parts]
    if len(values) != 2 or values[0] is None or values[1] is None:
        return False
    return 0 <= values[0] <= 24 and (values[1] == 0 or 10 <= values[1] < 60)


def seconds(node: Node) -> int | None:
    """A time of day as seconds: `20:34`, `20:34:00`."""
    values = [part.value for part in node.parts]
    if not 2 <= len(values) <= 3 or not all(v is not None and v.denominator == 1 for v in values):
        return None
    whole = [int(value) for value in values if value is not None]
    return sum(value * size for value, size in zip(whole, (3600, 60, 1), strict=False))


def same_base(gold: Node, answer: Node) -> bool:
    """Whether two numerals are one number; the gold's base goes without saying."""
    first, second = _based(gold), _based(answer)
    if first is None or second is None:
        return False
    if second[1] is None:
        return first[0] == second[0]
    return _whole(*first) == _whole(*second)


def _based(node: Node) -> tuple[str, int | None] | None:
    if node.kind == "negate":
        inner = _based(node.parts[0])
        return None if inner is None else (f"-{inner[0]}", inner[1])
    if node.kind == "base":
        digits, _, base = node.name.partition("_")
        return (digits, int(base)) if base.isdigit() and 2 <= int(base) <= 36 else None
    if node.kind == "number" and node.value is not None and node.value.denominator == 1:
        return str(node.value), None
    return None


def _whole(digits: str, base: int | None) -> object:
    try:
        return int(digits, base or 10)
    except ValueError:
        return digits, base
