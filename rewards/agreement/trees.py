"""Whether two trees are the same answer: lists, tuples, sets, equations, and what is in them."""

from collections.abc import Sequence
from itertools import pairwise

from rewards.agreement.equations import Equations, assigned, name_of
from rewards.agreement.labels import is_clock, same_base, seconds
from rewards.agreement.lists import items, signs_apart
from rewards.agreement.matrices import as_matrix, determinant
from rewards.agreement.quantities import (
    in_base_units,
    lettered,
    quantity_total,
    same_quantity,
    without_letters,
)
from rewards.agreement.regions import is_region, same_region
from rewards.agreement.scalars import Scalars
from rewards.reading.tree import Node, Unreadable, symbols

_ORDER = ("<", ">", "<=", ">=")
_TURNED = {"<": ">", "<=": ">="}
_MOST_ITEMS = 64


class Agreement:
    """Comparison of whole answers under one recipe's tolerances."""

    def __init__(self, decimals: int, digits: int) -> None:
        self._scalars = Scalars(decimals, digits)
        self._equations = Equations(self._scalars, digits)
        self._digits = digits

    def same(self, gold: Node, answer: Node) -> bool:
        """Whether the answer says what the gold says.

        Raises:
            Unreadable: the two cannot be compared as mathematics.
            TooLarge: a value has too many digits.
        """
        if gold == answer:
            return True
        if is_region(gold) or is_region(answer):
            gold, answer = signs_apart(gold), signs_apart(answer)
            return self._same_region(gold, answer)
        golds, answers = items(gold), items(answer)
        if golds is not None or answers is not None:
            return self._same_items(gold, answer, golds or [gold], answers or [answer])
        return self._same_one(gold, answer)

    def _same_region(self, gold: Node, answer: Node) -> bool:
        if gold.kind == answer.kind == "group" and len(gold.parts) == len(answer.parts):
            alike = gold.name == answer.name or len(gold.parts) != 2
            return alike and self._in_order(gold.parts, answer.parts)
        try:
            return same_region(gold, answer, self._digits)
        except Unreadable:
            pass
        if gold.kind == answer.kind == "relation":
            return self._same_constraints(gold, answer)
        if gold.kind == answer.kind and gold.kind in ("union", "list"):
            return self._matched(gold.parts, answer.parts)
        raise Unreadable("a set of numbers beside something else")

    def _same_constraints(self, gold: Node, answer: Node) -> bool:
        """Whether two chains of inequalities state the same ones."""
        ours, theirs = _constraints(gold), _constraints(answer)
        if len(ours) != len(theirs):
            return False
        for sign, difference in ours:
            for index, (other, second) in enumerate(theirs):
                if sign == other and self._scalars.positively_proportional(difference, second):
                    del theirs[index]
                    break
            else:
                return False
        return True

    def _same_items(self, gold: Node, answer: Node, golds: list[Node], answers: list[Node]) -> bool:
        tuples = [node for node in (gold, answer) if _is_tuple(node)]
        if (
            tuples
            and len(golds) == len(answers) == 1
            and _is_tuple(golds[0]) != _is_tuple(answers[0])
        ):
            return self._same_one(golds[0], answers[0])
        for one, other in ((gold, golds), (answer, answers)):
            total = quantity_total(tuple(other)) if one.kind == "list" and len(other) > 1 else None
            if total is not None:
                return self._same_total(gold, answer, golds, answers)
        if gold.name == "or" and len(answers) == 1:
            return all(self._part(one, answers[0]) for one in golds)
        if len(golds) != len(answers):
            shorter, longer = sorted((golds, answers), key=len)
            if len(shorter) == 1 and _is_tuple(shorter[0]):
                return self._tuple_and_values(shorter[0], longer)
            return self._grouped(golds, answers)
        if any(part.name == "ldots" for part in (*golds, *answers)):
            return self._in_order(golds, answers)
        if "by" in (gold.name, answer.name):
            return self._matched(golds, answers)
        return self._matched(_named(golds), _named(answers))

    def _same_total(self, gold: Node, answer: Node, golds: list[Node], answers: list[Node]) -> bool:
        if "by" in (gold.name, answer.name) or (
            len(golds) == len(answers) and (gold.name != "compound" or answer.name != "compound")
        ):
            return self._matched(golds, answers)
        if {gold.name, answer.name} & {",", ";", "or"}:
            return self._matched(golds, answers)
        totals = [
            quantity_total(tuple(each)) if len(each) > 1 else in_base_units(each[0])
            for each in (golds, answers)
        ]
        if totals[0] is None or totals[1] is None:
            return len(golds) == len(answers) and self._matched(golds, answers)
        return self._scalars.equal(totals[0], totals[1])

    def _grouped(self, golds: list[Node], answers: list[Node]) -> bool:
        """`p=5, q=2; p=7, q=2` beside `(5,2), (7,2)`."""
        shorter, longer = sorted((golds, answers), key=len)
        if not all(_is_tuple(node) for node in shorter) or not all(assigned(n) for n in longer):
            return False
        width, rest = divmod(len(longer), len(shorter))
        if rest:
            return False
        groups = [
            Node("group", tuple(longer[at : at + width]), "()")
            for at in range(0, len(longer), width)
        ]
        return self._matched(shorter, groups)

    def _tuple_and_values(self, group: Node, values: list[Node]) -> bool:
        if len(group.parts) != len(values):
            return False
        names = {name_of(value) for value in values if assigned(value)}
        if not names or len(names) == len(values):
            return self._in_order(group.parts, [_right(value) for value in values])
        return False

    def _matched(self, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        """Whether each gold has an answer of its own, whatever their order."""
        if len(golds) != len(answers) or len(golds) > _MOST_ITEMS:
            return False
        left = list(answers)
        for gold in golds:
            for index, answer in enumerate(left):
                if self._part(gold, answer):
                    del left[index]
                    break
            else:
                return False
        return True

    def _in_order(self, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        return len(golds) == len(answers) and all(
            self._part(gold, answer) for gold, answer in zip(golds, answers, strict=True)
        )

    def _part(self, gold: Node, answer: Node) -> bool:
        """Whether two parts of lists agree; parts that cannot be compared differ."""
        try:
            return self.same(gold, answer)
        except Unreadable:
            return False

    def _same_one(self, gold: Node, answer: Node) -> bool:
        if gold.kind == "relation" or answer.kind == "relation":
            return self._equations.same(gold, answer, self.same)
        first, second = as_matrix(gold), as_matrix(answer)
        if first is not None or second is not None:
            return self._same_matrix(gold, answer, first, second)
        if _is_tuple(gold) and _is_tuple(answer):
            alike = len(gold.parts) != 2 or _plain(gold) == _plain(answer)
            return alike and self._in_order(gold.parts, answer.parts)
        if _is_tuple(gold) or _is_tuple(answer):
            point, other = (gold, answer) if _is_tuple(gold) else (answer, gold)
            named = other.kind == "multiply" and other.parts[0].kind == "symbol"
            return named and _is_tuple(other.parts[1]) and self._same_one(point, other.parts[1])
        for kind in ("ratio", "modulo"):
            if gold.kind == kind or answer.kind == kind:
                return self._same_structure(gold, answer, kind)
        if gold.kind == "base" or answer.kind == "base":
            return same_base(gold, answer)
        return self._same_scalar(gold, answer)

    def _same_matrix(
        self,
        gold: Node,
        answer: Node,
        first: Sequence[Sequence[Node]] | None,
        second: Sequence[Sequence[Node]] | None,
    ) -> bool:
        if first is not None and second is not None:
            return len(first) == len(second) and all(map(self._in_order, first, second))
        rows, other = (first or second or (), answer if first is not None else gold)
        if _is_tuple(other) and (len(rows) == 1 or all(len(row) == 1 for row in rows)):
            flat = [cell for row in rows for cell in row]
            return self._in_order(flat, other.parts)
        return False

    def _same_structure(self, gold: Node, answer: Node, kind: str) -> bool:
        if gold.kind != answer.kind:
            if kind == "ratio" and all(len(node.parts) in (0, 2) for node in (gold, answer)):
                return self._same_scalar(_divided(gold), _divided(answer))
            return False
        if kind == "modulo":
            return self._in_order(gold.parts, answer.parts)
        if len(gold.parts) != len(answer.parts):
            return seconds(gold) is not None and seconds(gold) == seconds(answer)
        strict = any(
            part.name == "ldots" or part.value == 0 for part in (*gold.parts, *answer.parts)
        )
        if strict or (is_clock(gold) and is_clock(answer)):
            return self._in_order(gold.parts, answer.parts)
        return all(
            self._scalars.equal(
                Node("multiply", (one[0], other[1])), Node("multiply", (one[1], other[0]))
            )
            for one, other in zip(pairwise(gold.parts), pairwise(answer.parts), strict=True)
        )

    def _same_scalar(self, gold: Node, answer: Node) -> bool:
        gold, answer = determinant(gold), determinant(answer)
        if (measured := _both_measured(gold, answer)) is not None:
            return same_quantity(*measured, self._scalars.equal)
        for one, other in ((gold, answer), (answer, gold)):
            if not symbols(one) and symbols(other):
                number = without_letters(other)
                if number is not None:
                    return same_quantity(one, number, self._scalars.equal)
        return same_quantity(gold, answer, self._scalars.equal)


def _both_measured(gold: Node, answer: Node) -> tuple[Node, Node] | None:
    """Both as quantities, where one has its unit in words and the other in letters."""
    first = gold if gold.kind == "quantity" else lettered(gold)
    second = answer if answer.kind == "quantity" else lettered(answer)
    if first is None or second is None or "quantity" not in (gold.kind, answer.kind):
        return None
    return first, second


def _named(nodes: list[Node]) -> list[Node]:
    """Assignments of one letter as their values: `x=1, x=2` and `n=1, 2` are lists of numbers."""
    names = {name_of(node) for node in nodes if assigned(node)}
    if len(names) == 1 and assigned(nodes[0]):
        return [_right(node) for node in nodes]
    return nodes


def _right(node: Node) -> Node:
    return node.parts[1] if assigned(node) else node


def _is_tuple(node: Node) -> bool:
    return node.kind == "group" and node.name != "{}"


def _plain(node: Node) -> str:
    return node.name.replace("<", "(").replace(">", ")")


def _divided(node: Node) -> Node:
    return Node("divide", node.parts) if node.kind == "ratio" else node


def _constraints(node: Node) -> list[tuple[str, Node]]:
    found: list[tuple[str, Node]] = []
    for sign, (one, other) in zip(node.name.split(), pairwise(node.parts), strict=True):
        if sign in _TURNED:
            sign, one, other = _TURNED[sign], other, one
        found.append((sign, Node("add", (one, Node("negate", (other,))))))
    return found
