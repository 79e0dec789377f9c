"""Values of trees: exact fractions where there are some, else floats of any precision.

Everything is bounded before it is worked out: no power, factorial, sum or product is taken whose
value would have more digits than allowed.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from rewards.reading.tree import Node, TooLarge, Unreadable, symbols

_MOST_TERMS = 2000
_MOST_TO_TURN = 1e15
"""Largest argument of a function whose digits before the point do not matter to its value."""


def exact(node: Node, digits: int) -> Fraction | None:
    """The rational value of `node`, or None where it has none that is worked out exactly.

    Raises:
        TooLarge: the value would have more than `digits` digits.
    """
    try:
        return _exact(node, digits)
    except ZeroDivisionError:
        return None


def _exact(node: Node, digits: int) -> Fraction | None:
    if node.kind == "number":
        return _bounded(node.value, digits)
    if (node.kind == "call" and node.name == "binomial") or node.kind in _EXACT:
        values = [_exact(part, digits) for part in node.parts]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        work = _EXACT["binomial" if node.kind == "call" else node.kind]
        return _bounded(work(known, digits), digits)
    if node.kind == "call" and len(node.parts) == 1 and node.name in _WHOLE:
        inner = _exact(node.parts[0], digits)
        return None if inner is None else _bounded(_WHOLE[node.name](inner, digits), digits)
    return None


def _bounded(value: Fraction | None, digits: int) -> Fraction | None:
    if value is not None:
        bits = max(value.numerator.bit_length(), value.denominator.bit_length())
        if bits * 0.30103 > digits + 1:
            raise TooLarge(f"over {digits} digits")
    return value


def _power(values: list[Fraction], digits: int) -> Fraction | None:
    base, power = values
    if power.denominator != 1:
        return None
    size = max(abs(base.numerator).bit_length(), base.denominator.bit_length())
    if abs(base) not in (0, 1) and abs(power) * size > 7 * digits + 30:
        raise TooLarge(f"over {digits} digits")
    return base ** int(power)


def _factorial(value: Fraction, digits: int) -> Fraction | None:
    if value.denominator != 1 or value < 0:
        return None
    if value > 1e7 or math.lgamma(float(value) + 1) / math.log(10) > digits:
        raise TooLarge(f"over {digits} digits")
    return Fraction(math.factorial(int(value)))


def _binomial(values: list[Fraction], digits: int) -> Fraction | None:
    top, chosen = values
    if top.denominator != 1 or chosen.denominator != 1 or top < 0 or chosen < 0:
        return None
    few = min(chosen, top - chosen)
    if few > 1e7 or (few > 0 and float(few) * math.log10(int(top)) > digits):
        raise TooLarge(f"over {digits} digits")
    return Fraction(math.comb(int(top), int(chosen)))


_EXACT: dict[str, Callable[[list[Fraction], int], Fraction | None]] = {
    "add": lambda values, _: sum(values, Fraction(0)),
    "multiply": lambda values, _: values[0] * values[1],
    "divide": lambda values, _: values[0] / values[1],
    "negate": lambda values, _: -values[0],
    "power": _power,
    "binomial": _binomial,
}
_WHOLE: dict[str, Callable[[Fraction, int], Fraction | None]] = {
    "factorial": _factorial,
    "abs": lambda value, _: abs(value),
    "floor": lambda value, _: Fraction(math.floor(value)),
    "ceil": lambda value, _: Fraction(math.ceil(value)),
}

_FUNCTIONS = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc",
    "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "coth": "coth", "sech": "sech", "csch": "csch",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec",
    "arccsc": "acsc", "ln": "log", "exp": "exp", "floor": "floor", "ceil": "ceil", "cbrt": "cbrt",
    "asin": "asin", "acos": "acos", "atan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "sgn": "sign", "Re": "re", "Im": "im", "arg": "arg", "sqrt": "sqrt",
}  # fmt: skip
_SEVERAL = ("root", "log", "log10", "log base", "factorial", "binomial", "abs")
_CIRCULAR = ("sin", "cos", "tan", "cot", "sec", "csc")


class Evaluator:
    """Values at one point, in one of mpmath's contexts (`mpmath.fp` or `mpmath.mp`)."""

    def __init__(
        self, context: Any, point: Mapping[str, Any], digits: int, *, common_log: bool = False
    ) -> None:
        self._context = context
        self._point = point
        self._digits = digits
        self._common_log = common_log

    def value(self, node: Node) -> Any:
        """The value, a float or complex of the context.

        Raises:
            Unreadable: the node has no number as its value.
            TooLarge: the value would have too many digits.
        """
        try:
            return self._value(node)
        except (ValueError, ZeroDivisionError, OverflowError, TypeError, ArithmeticError) as error:
            if isinstance(error, TooLarge | Unreadable):
                raise
            raise Unreadable(str(error)) from error

    def _value(self, node: Node) -> Any:
        work = getattr(self, f"_{node.kind}", None)
        if work is None:
            raise Unreadable(node.kind)
        return work(node)

    def _number(self, node: Node) -> Any:
        value = node.value or Fraction(0)
        return self._context.mpf(value.numerator) / value.denominator

    def _symbol(self, node: Node) -> Any:
        if node.name not in self._point:
            raise Unreadable(node.name)
        return self._point[node.name]

    def _constant(self, node: Node) -> Any:
        context = self._context
        known = {"pi": context.pi, "e": context.e, "i": context.mpc(0, 1), "infinity": context.inf}
        if node.name not in known:
            raise Unreadable(node.name)
        return +known[node.name]

    def _add(self, node: Node) -> Any:
        return sum((self._value(part) for part in node.parts), self._context.mpf(0))

    def _multiply(self, node: Node) -> Any:
        return self._value(node.parts[0]) * self._value(node.parts[1])

    def _divide(self, node: Node) -> Any:
        return self._value(node.parts[0]) / self._value(node.parts[1])

    def _negate(self, node: Node) -> Any:
        return -self._value(node.parts[0])

    def _percent(self, node: Node) -> Any:
        return self._value(node.parts[0]) / 100

    def _degrees(self, node: Node) -> Any:
        return self._value(node.parts[0]) * self._context.pi / 180

    def _power(self, node: Node) -> Any:
        base, power = (self._value(part) for part in node.parts)
        size = abs(base)
        if size and abs(power) * abs(self._context.log(size)) > 2.4 * self._digits:
            raise TooLarge(f"over {self._digits} digits")
        return base**power

    def _sum(self, node: Node) -> Any:
        if node.parts[2].name == "infinity":
            return self._endless(node)
        return sum(self._terms(node), self._context.mpf(0))

    def _endless(self, node: Node) -> Any:
        """A series whose terms shrink faster than 1/n, by mpmath's extrapolation."""
        first = exact(node.parts[1], 9)
        if first is None or first.denominator != 1 or symbols(node):
            raise Unreadable("a sum without whole bounds")
        context = working(20)

        def term(index: Any) -> Any:
            point = {node.name: context.mpf(index)}
            return Evaluator(context, point, self._digits).value(node.parts[0])

        far, farther = (abs(term(index)) * index for index in (100, 2000))
        if farther > far / 2 and farther:
            raise Unreadable("a sum that may not converge")
        return self._context.mpc(context.nsum(term, [int(first), context.inf], maxterms=400))

    def _product(self, node: Node) -> Any:
        total = self._context.mpf(1)
        for term in self._terms(node):
            total *= term
        return total

    def _terms(self, node: Node) -> Any:
        body, low, high = node.parts
        first, last = (exact(part, 9) for part in (low, high))
        if first is None or last is None or first.denominator != 1 or last.denominator != 1:
            raise Unreadable("sum without whole bounds")
        if last - first > _MOST_TERMS:
            raise TooLarge(f"over {_MOST_TERMS} terms")
        for index in range(int(first), int(last) + 1):
            point = {**self._point, node.name: self._context.mpf(index)}
            yield Evaluator(self._context, point, self._digits).value(body)

    def _call(self, node: Node) -> Any:
        name = node.name
        if name.startswith("function"):
            return self._unknown(name, node.parts)
        values = [self._value(part) for part in node.parts]
        return self._of_several(name, values) if name in _SEVERAL else self._of_one(name, values)

    def _of_several(self, name: str, values: list[Any]) -> Any:
        context = self._context
        if name == "root":
            return self._root(*values)
        if name in ("log", "log10"):
            common = name == "log10" or self._common_log
            return context.log(values[0]) / (context.log(10) if common else 1)
        if name == "log base":
            return context.log(values[0]) / context.log(values[1])
        if name in ("factorial", "binomial"):
            if abs(values[0]) > 1e5:
                raise TooLarge(f"over {self._digits} digits")
            return context.factorial(values[0]) if len(values) == 1 else context.binomial(*values)
        return abs(values[0])

    def _of_one(self, name: str, values: list[Any]) -> Any:
        if len(values) != 1 or name not in _FUNCTIONS:
            raise Unreadable(name)
        if name in _CIRCULAR and abs(values[0]) > _MOST_TO_TURN:
            raise TooLarge("an angle of too many turns")
        if name in ("exp", "sinh", "cosh") and abs(values[0]) > 2.4 * self._digits:
            raise TooLarge(f"over {self._digits} digits")
        return getattr(self._context, _FUNCTIONS[name])(values[0])

    def _root(self, under: Any, degree: Any) -> Any:
        """The real root where there is one."""
        context = self._context
        if degree == 2:
            return context.sqrt(under)
        negative = not getattr(under, "imag", 0) and getattr(under, "real", under) < 0
        if negative and degree == int(degree) and int(degree) % 2:
            return -((-under) ** (1 / degree))
        return under ** (1 / context.mpf(degree))

    def _unknown(self, name: str, arguments: tuple[Node, ...]) -> Any:
        """A function of no known form: a fixed smooth one, chosen by its name."""
        seed = zlib.crc32(name.encode()) % 997 / 997 + 1
        total = self._context.mpf(seed)
        for place, argument in enumerate(arguments, start=2):
            value = self._value(argument)
            total += self._context.sin(value * seed * place) + value * seed / place
        return total

    def __call__(self, node: Node) -> Any:
        return self.value(node)


def working(digits: int = 40) -> Any:
    """An mpmath context of its own with so many digits."""
    context = mpmath.MPContext()
    context.dps = digits
    return context
