"""Equations: names that are given a value, and curves that are the same."""

from collections.abc import Callable
from typing import Any

import mpmath

from rewards.agreement.scalars import Scalars, point_of
from rewards.agreement.values import Evaluator
from rewards.reading.tree import Node, Unreadable, symbols

_EQUAL = frozenset(("=", "~", "==="))
_STARTS = (0.37, -1.3, 2.9, -4.1, 0.9)
_LOOSE = 0.01


class Equations:
    """Comparison of equations with each other and with plain values."""

    def __init__(self, scalars: Scalars, digits: int) -> None:
        self._scalars = scalars
        self._digits = digits

    def same(self, gold: Node, answer: Node, same: Callable[[Node, Node], bool]) -> bool:
        """Whether two answers agree, at least one of them a relation."""
        for node in (gold, answer):
            if node.kind == "relation" and not set(node.name.split()) <= _EQUAL:
                return self._same_signs(gold, answer, same)
        if gold.kind != "relation":
            return self._value(gold, answer, same, on_gold=False)
        if answer.kind != "relation":
            return self._value(answer, gold, same, on_gold=True)
        if "===" in gold.name or "===" in answer.name:
            return self._same_signs(gold, answer, same)
        return self._same_equations(gold, answer, same)

    def _same_signs(self, gold: Node, answer: Node, same: Callable[[Node, Node], bool]) -> bool:
        if gold.kind != answer.kind or gold.name != answer.name:
            return False
        return all(map(same, gold.parts, answer.parts))

    def _value(
        self, value: Node, relation: Node, same: Callable[[Node, Node], bool], *, on_gold: bool
    ) -> bool:
        """Whether an equation gives `value`: `x = 5`, `AB = 5`, `2^2 = 4`, `a = 1/3 = 0.333...`."""
        sides = list(relation.parts)
        if is_name(sides[0]) or (not on_gold and _sum_of_letters(sides[0])):
            sides = sides[1:]
        elif any(symbols(side) for side in sides):
            return False
        if not self._consistent(sides, relation.name):
            return False
        return any(same(value, side) for side in sides)

    def _consistent(self, sides: list[Node], signs: str) -> bool:
        for side in sides[1:]:
            try:
                if self._scalars.equal(sides[0], side):
                    continue
                one, other = self._scalars.number(sides[0]), self._scalars.number(side)
                if "~" not in signs or abs(one - other) > _LOOSE * abs(one):
                    return False
            except Unreadable:
                return False
        return True

    def _same_equations(self, gold: Node, answer: Node, same: Callable[[Node, Node], bool]) -> bool:
        if is_name(gold.parts[0]) and is_name(answer.parts[0]):
            names = name_of(gold), name_of(answer)
            if names[0] != names[1] and not _both_dependent(gold, answer):
                return False
            if names[0] == names[1] or symbols(gold.parts[0]) != symbols(answer.parts[0]):
                explicit = not any(
                    symbols(e.parts[0]) & symbols(e.parts[-1]) for e in (gold, answer)
                )
                if same(gold.parts[-1], answer.parts[-1]):
                    return True
                if explicit and len(gold.parts) == len(answer.parts) == 2:
                    return False
        if len(gold.parts) != 2 or len(answer.parts) != 2:
            return len(gold.parts) == len(answer.parts) and all(map(same, gold.parts, answer.parts))
        one, other = (
            Node("add", (e.parts[0], Node("negate", (e.parts[1],)))) for e in (gold, answer)
        )
        if not symbols(one) and not symbols(other):
            return all(map(same, gold.parts, answer.parts))
        if symbols(one) != symbols(other):
            return False
        if self._scalars.proportional(one, other):
            return True
        return self._same_zeros(one, other)

    def _same_zeros(self, one: Node, other: Node) -> bool:
        """Whether each vanishes where the other does, along lines through all other letters."""
        letters = symbols(one)
        solved = 0
        for letter in sorted(letters):
            for index in (0, 2):
                point = point_of(letters, index, mpmath.fp)
                first, second = (self._along(node, point, letter) for node in (one, other))
                roots = _roots(first), _roots(second)
                if not all(_vanishes(second, x) for x in roots[0]):
                    return False
                if not all(_vanishes(first, x) for x in roots[1]):
                    return False
                solved += bool(roots[0] and roots[1])
        return solved > 0

    def _along(self, node: Node, point: dict[str, Any], letter: str) -> Callable[[Any], Any]:
        def at(x: Any) -> Any:
            return Evaluator(mpmath.fp, {**point, letter: x}, self._digits)(node)

        return at


def assigned(node: Node) -> bool:
    """Whether the node gives a name a value, as `x = 5` does."""
    return (
        node.kind == "relation"
        and set(node.name.split()) <= _EQUAL
        and is_name(node.parts[0])
        and len(node.parts) == 2
    )


def name_of(node: Node) -> str:
    """The name on the left of an assignment, as text to compare."""
    return repr(node.parts[0])


def is_name(node: Node) -> bool:
    """Whether a left side only names what the right side is: `x`, `f(x)`, `|AB|`, `(p, q)`."""
    if node.kind == "symbol":
        return True
    if node.kind == "call":
        return node.name.startswith("function") or (node.name == "abs" and is_name(node.parts[0]))
    if node.kind in ("divide", "ratio", "group"):
        return all(is_name(part) for part in node.parts)
    if node.kind == "multiply":
        first = node.parts[0].parts[0] if node.parts[0].kind == "power" else node.parts[0]
        if first.name in ("d", "partial"):
            return True
        if all(is_name(part) for part in node.parts) and _capital(node):
            return True
        return (
            node.parts[0].kind == "symbol"
            and node.parts[0].name[:1] in "PES"
            and (node.parts[1].kind in ("symbol", "group"))
        )
    return False


def _capital(node: Node) -> bool:
    return all(name[:1].isupper() or " " in name for name in symbols(node))


def _sum_of_letters(node: Node) -> bool:
    if node.kind == "negate":
        return _sum_of_letters(node.parts[0])
    if node.kind in ("add", "multiply"):
        return all(_sum_of_letters(part) for part in node.parts)
    return node.kind == "symbol"


def _both_dependent(gold: Node, answer: Node) -> bool:
    """One side writes `y`, the other `f(x)`."""
    kinds = {node.parts[0].kind for node in (gold, answer)}
    return kinds == {"symbol", "call"}


def _roots(function: Callable[[Any], Any]) -> list[Any]:
    found: list[Any] = []
    for start in _STARTS:
        x, step = start, start + 0.1
        try:
            before, now = function(x), function(step)
            for _ in range(40):
                if now == before:
                    break
                x, step = step, step - now * (step - x) / (now - before)
                before, now = now, function(step)
                if abs(now) < 1e-13:
                    break
        except (ValueError, ArithmeticError, TypeError):
            continue
        if abs(now) < 1e-10 and abs(step) < 1e6:
            found.append(step)
    return found


def _vanishes(function: Callable[[Any], Any], x: Any) -> bool:
    try:
        scale = abs(function(x + 0.21)) + abs(function(x - 0.17))
        return abs(function(x)) < 1e-7 * scale
    except (ValueError, ArithmeticError, TypeError):
        return False
