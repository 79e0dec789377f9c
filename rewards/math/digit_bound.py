"""How many digits the value of an expression would have, from its unevaluated tree.

math-verify parses 9^{9^{9^9}} or (10^{10})! in a millisecond and hangs when it evaluates them. The
bounds here are rough and err upwards; what slips through still meets the deadline.
"""

import math
from typing import Any

import sympy
from sympy import Add, Basic, Float, Integer, Mul, Pow, Product, Rational

_LOG10_2 = math.log10(2.0)


def digit_bound(expression: Any) -> float:
    """Upper estimate of the decimal digits (or terms) in the value of `expression`."""
    if isinstance(expression, sympy.MatrixBase):
        return sum(digit_bound(element) for element in expression.flat())
    if isinstance(expression, Integer):
        return 1.0 + int(expression).bit_length() * _LOG10_2
    if isinstance(expression, Rational):
        return digit_bound(Integer(expression.p)) + digit_bound(Integer(expression.q))
    if not isinstance(expression, Basic) or isinstance(expression, sympy.Symbol | Float):
        return 1.0
    if isinstance(expression, Pow):
        base, power = expression.args
        inner = max(digit_bound(base), digit_bound(power))
        return max(inner, _product(abs(_value(power)), _log_size(base)))
    if isinstance(expression, sympy.exp):
        return max(digit_bound(expression.args[0]), abs(_value(expression.args[0])))
    if isinstance(expression, sympy.factorial | sympy.factorial2):
        return max(digit_bound(expression.args[0]), _log_factorial(_value(expression.args[0])))
    if isinstance(expression, sympy.binomial):
        top, chosen = (_value(argument) for argument in expression.args)
        few = min(chosen, top - chosen) if math.isfinite(top - chosen) else chosen
        return max(0.0, few) * math.log10(max(top, 10.0)) if math.isfinite(top) else math.inf
    if isinstance(expression, Product):
        _, low, high = expression.limits[0]
        return _product(_value(high) - _value(low), digit_bound(expression.function))
    return sum((digit_bound(argument) for argument in expression.args), start=1.0)


def _log_size(base: Any) -> float:
    """Digits that one more factor of `base` adds; for a sum of terms, the terms it adds."""
    if isinstance(base, Add) and base.free_symbols:
        return float(len(base.args))
    return digit_bound(base)


def _product(times: float, each: float) -> float:
    return 0.0 if times <= 0 else times * each


def _log_factorial(value: float) -> float:
    if value < 2:
        return 1.0
    return math.inf if value > 1e300 else math.lgamma(value + 1.0) / math.log(10.0)


def _value(expression: Any) -> float:
    """Rough magnitude as a float, infinite beyond its range; 1 for symbols."""
    try:
        return _rough(expression)
    except OverflowError:
        return math.inf


def _rough(expression: Any) -> float:
    if isinstance(expression, Rational | Float):
        return float(expression)
    if isinstance(expression, Add):
        return sum(_rough(term) for term in expression.args)
    if isinstance(expression, Mul):
        return math.prod(_rough(factor) for factor in expression.args)
    if isinstance(expression, Pow):
        base, power = (_rough(argument) for argument in expression.args)
        return abs(base) ** power if base else 0.0
    if isinstance(expression, sympy.factorial | sympy.factorial2):
        value = _rough(expression.args[0])
        return math.gamma(value + 1.0) if value >= 0 else 1.0
    if isinstance(expression, sympy.exp):
        return math.exp(_rough(expression.args[0]))
    if isinstance(expression, sympy.Sum | Product | sympy.binomial):
        return math.inf if digit_bound(expression) > 300 else 10.0 ** digit_bound(expression)
    if isinstance(expression, Basic) and expression.args:
        return max(_rough(argument) for argument in expression.args)
    return 1.0
