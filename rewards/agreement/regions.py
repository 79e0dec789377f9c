"""Sets of real numbers: intervals, their unions, inequalities in one letter, set builders.

Two of them are equal when the same numbers are in both, tried at every constant that either writes
down, on both sides of it, and between and beyond them.
"""

import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import mpmath

from rewards.agreement.values import Evaluator
from rewards.reading.tree import Node, Unreadable, symbols

_INEQUALITIES = frozenset(("<", ">", "<=", ">=", "!=", "in", "notin"))
_MOST_CONSTANTS = 40
_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_TOLERANCE = 1e-11


def is_region(node: Node) -> bool:
    """Whether the node can only be a set of numbers, not a point, a list or a value."""
    if node.kind in ("union", "intersection", "difference", "builder"):
        return True
    if node.kind == "constant":
        return node.name in ("reals", "empty")
    if node.kind == "group":
        mixed = node.name in ("[)", "(]", "[]")
        endless = any(part.name == "infinity" for side in node.parts for part in side.walk())
        return len(node.parts) == 2 and (mixed or endless)
    if node.kind == "relation":
        return bool(_INEQUALITIES & set(node.name.split()))
    return node.kind == "list" and any(is_region(part) for part in node.parts)


def same_region(one: Node, other: Node, digits: int) -> bool:
    """Whether two nodes are the same set of real numbers.

    Raises:
        Unreadable: one of them is no set of numbers, or is one over several letters.
    """
    names = symbols(one), symbols(other)
    if max(map(len, names)) > 1 or (all(names) and names[0] != names[1]):
        raise Unreadable("several letters")
    letter = next(iter(names[0] | names[1]), "x")
    first, second = _Region(one, letter, digits), _Region(other, letter, digits)
    return all(first.holds(x) == second.holds(x) for x in _places(one, other, digits))


def _places(one: Node, other: Node, digits: int) -> list[float]:
    evaluate = Evaluator(mpmath.fp, {}, digits)
    found: set[float] = {0.0, 1.0, -1.0}
    for node in (*one.walk(), *other.walk()):
        if len(found) > _MOST_CONSTANTS or symbols(node):
            continue
        try:
            value = evaluate(node)
        except Unreadable:
            continue
        if not value.imag and abs(value.real) < 1e15:
            found |= {float(value.real), -float(value.real)}
    ordered = sorted(found)
    between = [(low + high) / 2 for low, high in pairwise(ordered)]
    near = [x + sign * 1e-7 * max(1.0, abs(x)) for x in ordered for sign in (-1, 1)]
    beyond = [ordered[0] - 1.7, ordered[-1] + 1.7, 3.3 * ordered[0], 3.3 * ordered[-1]]
    return [*ordered, *between, *near, *beyond, *(0.37 + 0.61 * step for step in range(-8, 8))]


class _Region:
    def __init__(self, node: Node, letter: str, digits: int) -> None:
        self._node = node
        self._letter = letter
        self._digits = digits

    def holds(self, x: float) -> bool:
        return self._inside(self._node, x)

    def _value(self, node: Node, x: float) -> float | None:
        """The real value with the letter at x; None where there is none."""
        try:
            value = Evaluator(mpmath.fp, {self._letter: x}, self._digits)(node)
        except Unreadable:
            if symbols(node):
                return None
            raise
        return float(value.real) if abs(value.imag) < _TOLERANCE else None

    def _inside(self, node: Node, x: float) -> bool:
        if node.kind == "constant" and node.name in ("reals", "empty"):
            return node.name == "reals"
        if node.kind == "group" and node.name == "{}":
            return any(_equal(self._value(part, x), x) for part in node.parts)
        if node.kind == "group" and len(node.parts) == 2:
            low, high = (self._value(part, x) for part in node.parts)
            ops = ("<=" if node.name[0] == "[" else "<", "<=" if node.name[1] == "]" else "<")
            return _holds(ops[0], low, x) and _holds(ops[1], x, high)
        if node.kind in ("union", "intersection", "difference"):
            first, second = (self._inside(part, x) for part in node.parts)
            if node.kind == "union":
                return first or second
            return first and (second if node.kind == "intersection" else not second)
        if node.kind == "builder":
            return self._inside(node.parts[1], x) and (
                node.parts[0].kind == "symbol" or self._inside(node.parts[0], x)
            )
        if node.kind == "list":
            several = [self._inside(part, x) for part in node.parts]
            ordering = all(_orders(part) for part in node.parts)
            together = node.name in ("and", ",") and ordering
            return all(several) if together else any(several)
        if node.kind == "relation":
            return self._related(node, x)
        raise Unreadable(node.kind)

    def _related(self, node: Node, x: float) -> bool:
        signs = node.name.split()
        if signs[-1] in ("in", "notin"):
            if len(signs) > 1 or node.parts[0].kind != "symbol":
                raise Unreadable("membership")
            return self._inside(node.parts[1], x) == (signs == ["in"])
        values = [self._value(part, x) for part in node.parts]
        return all(_holds(sign, *pair) for sign, pair in zip(signs, pairwise(values), strict=True))


def _orders(node: Node) -> bool:
    return node.kind == "relation" and bool({"<", ">", "<=", ">=", "!="} & set(node.name.split()))


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return False
    if one == other or abs(one) == float("inf") or abs(other) == float("inf"):
        return one == other
    return abs(one - other) <= _TOLERANCE * max(abs(one), abs(other), 1.0)


def _holds(sign: str, one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return False
    if sign in ("=", "~"):
        return _equal(one, other)
    if sign == "!=":
        return not _equal(one, other)
    if sign not in _HOLDS:
        raise Unreadable(sign)
    if _equal(one, other):
        return "=" in sign
    return _HOLDS[sign](one, other)
