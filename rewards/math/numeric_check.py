"""Shows two expressions to differ by their values, where simplifying would take 50 times longer.

Equal expressions have equal values wherever both have one. So a clear gap at a single point settles
what math-verify would go on to simplify, and to the same end.
"""

from typing import Any

from sympy import Eq, Expr, Rational, Symbol, UnevaluatedExpr
from sympy.core.function import AppliedUndef

_PRIMES = (7, 11, 13, 17, 19, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)
_SCALES = (23, 5)
"""Two points: the i-th symbol is the i-th prime over the scale."""
_CLEAR = 1e-3
"""Relative gap; rounding to decimals and 15-digit evaluation stay far below it."""
_NO_PLAIN_VALUE = (UnevaluatedExpr, AppliedUndef)


def certainly_differ(gold: Any, answer: Any) -> bool:
    """True when two sympy expressions certainly differ; False when they may be equal.

    Decides on numbers, expressions and assignments (`y = 2x`) only. Percentages, which math-verify
    lets equal their hundredfold, and single words are left to it.
    """
    gold, answer = _right_sides(gold, answer)
    if not (_plain(gold) and _plain(answer)):
        return False
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    if len(symbols) > len(_PRIMES):
        return False
    scales = _SCALES if symbols else _SCALES[:1]
    return any(_gap_at(gold, answer, symbols, scale) for scale in scales)


def _right_sides(gold: Any, answer: Any) -> tuple[Any, Any]:
    """The sides of assignments to a letter that math-verify compares: the right ones."""
    if not _assigns(gold) or (isinstance(answer, Eq) and not _assigns(answer)):
        return gold, answer
    if not isinstance(answer, Eq):
        return gold.rhs, answer
    return (gold.rhs, answer.rhs) if gold.lhs == answer.lhs else (gold, answer)


def _assigns(expression: Any) -> bool:
    return (
        isinstance(expression, Eq)
        and isinstance(expression.lhs, Symbol)
        and isinstance(expression.rhs, Expr)
        and expression.lhs not in expression.rhs.free_symbols
    )


def _plain(expression: Any) -> bool:
    if not isinstance(expression, Expr) or isinstance(expression, Symbol):
        return False
    return bool(expression.is_commutative) and not expression.has(*_NO_PLAIN_VALUE)


def _gap_at(gold: Expr, answer: Expr, symbols: list[Any], scale: int) -> bool:
    places = {
        symbol: Rational(prime, scale) for symbol, prime in zip(symbols, _PRIMES, strict=False)
    }
    one, other = _value(gold, places), _value(answer, places)
    if one is None or other is None:
        return False
    # Plain numbers may be rounded to decimals before they are compared; expressions are not.
    size = max(abs(one), abs(other), 1e-30 if symbols else 1e-3)
    return abs(one - other) > _CLEAR * size


def _value(expression: Any, places: dict[Any, Rational]) -> complex | None:
    """The value at a point; None where it has none, or one outside the range of floats."""
    try:
        number = complex((expression.subs(places) if places else expression).evalf(15))
    except (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return None
    return number if abs(number) < 1e200 and number == number else None
