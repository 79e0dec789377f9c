"""Whether two scalar trees have the same value: exactly, or at several points.

Two expressions that agree to 15 digits at points drawn once for each letter are taken as equal
(Schwartz-Zippel); one clear gap shows that they differ.
"""

import zlib
from typing import Any

import mpmath

from rewards.agreement.values import Evaluator, exact, working
from rewards.reading.tree import Node, Unreadable, has, symbols

_SHARP = working(40)
_POINTS = (
    (0.15, 0.9, 0),
    (0.2, 0.95, 0),
    (1.1, 2.9, 0),
    (1.2, 3.1, 0),
    (0.3, 2.7, 1),
    (0.3, 1.9, 2),
    (11.0, 47.0, 0),
    (5.3, 29.0, 2),
)
"""Least and greatest size of the letters, and every how many-th of them is negative."""
_NEAR = 6
"""The points after so many are for steps (floor, ceiling), which all look alike near 0."""
_GAP = 1e-6
_MOST_SYMBOLS = 24


class Scalars:
    """Comparison of scalars under one recipe's tolerances."""

    def __init__(self, decimals: int, digits: int) -> None:
        self._decimals = decimals
        self._digits = digits

    def equal(self, one: Node, other: Node) -> bool:
        """Whether both are the same number, or the same function of the same letters.

        Raises:
            Unreadable: one of them has no value.
            TooLarge: one of them has too many digits.
        """
        if one == other:
            return True
        rounded = _rounded(one) or _rounded(other)
        first, second = exact(one, self._digits), exact(other, self._digits)
        if first is not None and second is not None:
            return first == second or (rounded and self._close(_mpf(first), _mpf(second)))
        letters = symbols(one) | symbols(other)
        if not letters:
            return self._equal_numbers(one, other, rounded)
        if len(letters) > _MOST_SYMBOLS:
            raise Unreadable("too many letters")
        logs = (False, True) if _has_log(one) or _has_log(other) else (False,)
        return any(self._equal_functions(one, other, letters, log) for log in logs)

    def number(self, node: Node) -> Any:
        """The value of a tree without letters, to 40 digits."""
        return Evaluator(_SHARP, {}, self._digits)(node)

    def _equal_numbers(self, one: Node, other: Node, rounded: bool) -> bool:
        sums = (inner for node in (one, other) for inner in node.walk() if inner.kind == "sum")
        gap = 1e-15 if any(inner.parts[2].name == "infinity" for inner in sums) else 1e-25
        for log in (False, True) if _has_log(one) or _has_log(other) else (False,):
            evaluate = Evaluator(_SHARP, {}, self._digits, common_log=log)
            first, second = evaluate(one), evaluate(other)
            if first == second or (
                _finite(first) and _finite(second) and _near(first, second, gap)
            ):
                return True
            if rounded and not (first.imag or second.imag) and self._close(first.real, second.real):
                return True
        return False

    def _close(self, first: Any, second: Any) -> bool:
        """Equal when rounded to the decimals, below 1 to as many significant digits."""
        if not (_SHARP.isfinite(first) and _SHARP.isfinite(second)):
            return False
        size = max(abs(first), abs(second))
        if not first or not second or (first < 0) != (second < 0):
            return False
        order = min(0, int(_SHARP.floor(_SHARP.log10(size))) + 1)
        allowed = _SHARP.mpf(10) ** (order - self._decimals) / 2
        return bool(abs(first - second) <= max(allowed * (1 + _SHARP.mpf(10) ** -9), size * 1e-12))

    def _equal_functions(self, one: Node, other: Node, letters: Any, log: bool) -> bool:
        imaginary = any(has_imaginary(node) for node in (one, other))
        real = complex_ = apart = 0
        far = any(inner.name in ("floor", "ceil") for node in (one, other) for inner in node.walk())
        for index in range(len(_POINTS) if far else _NEAR):
            values = self._at(one, other, letters, index, log, mpmath.fp)
            if values is None:
                continue
            first, second = values
            plain = not (abs(first.imag) > 1e-12 or abs(second.imag) > 1e-12)
            same = _near(first, second, _GAP)
            if same:
                sharp = self._at(one, other, letters, index, log, _SHARP)
                same = sharp is not None and _near(*sharp, 1e-20)
            if plain or (imaginary and _POINTS[index][2] == 0):
                if not same:
                    return False
                real += 1
            elif same:
                complex_ += 1
            else:
                apart += 1
        if not real and not complex_:
            if apart:
                return False
            raise Unreadable("no value at any point")
        return real > 0 or not apart

    def _at(
        self, one: Node, other: Node, letters: Any, index: int, log: bool, context: Any
    ) -> tuple[Any, Any] | None:
        point = point_of(letters, index, context)
        evaluate = Evaluator(context, point, self._digits, common_log=log)
        try:
            first, second = evaluate(one), evaluate(other)
        except Unreadable:
            return None
        first, second = context.mpc(first), context.mpc(second)
        if not (_finite(first) and _finite(second)):
            return None
        return first, second

    def proportional(self, one: Node, other: Node) -> bool:
        """Whether one is a constant times the other, neither of them zero."""
        letters = symbols(one) | symbols(other)
        ratio = None
        met = 0
        for index in range(_NEAR):
            values = self._at(one, other, letters, index, False, _SHARP)
            if values is None or not values[0] or not values[1]:
                continue
            now = values[0] / values[1]
            if ratio is not None and not _near(now, ratio, 1e-18):
                return False
            ratio, met = now, met + 1
        return met >= 2 or (met == 1 and not letters)

    def positively_proportional(self, one: Node, other: Node) -> bool:
        """`proportional` with a factor above zero."""
        if not self.proportional(one, other):
            return False
        letters = symbols(one) | symbols(other)
        for index in range(_NEAR):
            values = self._at(one, other, letters, index, False, _SHARP)
            if values is not None and values[1]:
                return bool((values[0] / values[1]).real > 0)
        return False


def point_of(letters: Any, index: int, context: Any) -> dict[str, Any]:
    """The value of each letter at a point; the same in every process."""
    low, high, negative = _POINTS[index]
    point: dict[str, Any] = {}
    for place, name in enumerate(sorted(letters)):
        share = zlib.crc32(f"{name} {index}".encode()) % 99991 / 99991
        value = context.mpf(low) + context.mpf(high - low) * context.mpf(share)
        point[name] = -value if negative and (place + 1) % negative == 0 else value
    return point


def has_imaginary(node: Node) -> bool:
    """Whether i stands in the tree."""
    return any(inner.kind == "constant" and inner.name == "i" for inner in node.walk())


def _has_log(node: Node) -> bool:
    return any(inner.kind == "call" and inner.name == "log" for inner in node.walk())


def _rounded(node: Node) -> bool:
    return any(inner.kind == "number" and inner.name == "decimal" for inner in node.walk()) and (
        not has(node, "symbol")
    )


def _mpf(value: Any) -> Any:
    return _SHARP.mpf(value.numerator) / value.denominator


def _finite(value: Any) -> bool:
    size = abs(value)
    return size == size and size != float("inf")


def _near(first: Any, second: Any, gap: float) -> bool:
    size = max(abs(first), abs(second))
    return bool(abs(first - second) <= gap * size) if size else True
