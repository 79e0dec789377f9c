"""The tree that an answer is read into."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction


class Unreadable(ValueError):
    """The text is no mathematics that the reader knows."""


class TooLarge(ValueError):
    """A value would have more digits than are worked out."""


@dataclass(frozen=True, slots=True)
class Node:
    """One part of an answer.

    Kinds: number (`value`; name `decimal` where it was written with a point), symbol, constant,
    add, multiply, divide, power, negate, call (`name` of parts), plus_minus, degrees, percent,
    quantity (`name` is the unit), group (`name` is its two brackets), list (`name` is what
    separates), relation (`name` holds the signs between the parts), union, intersection,
    difference, builder, matrix of rows, base (digits and base in `name`), ratio, modulo, sum and
    product over the variable `name`.
    """

    kind: str
    parts: tuple["Node", ...] = ()
    name: str = ""
    value: Fraction | None = None

    def walk(self) -> Iterator["Node"]:
        """This node and all below it."""
        yield self
        for part in self.parts:
            yield from part.walk()


def words_of(text: str) -> frozenset[str]:
    """The words of a text, as a set to look them up in."""
    return frozenset(text.split())


def integer(value: int) -> Node:
    """A whole number."""
    return Node("number", value=Fraction(value))


def symbols(node: Node) -> frozenset[str]:
    """Names of the free letters below `node`."""
    if node.kind == "symbol":
        return frozenset((node.name,))
    found = frozenset[str]().union(*(symbols(part) for part in node.parts))
    return found - {node.name} if node.kind in ("sum", "product") else found


def has(node: Node, *kinds: str) -> bool:
    """Whether a node of one of these kinds is in the tree."""
    return any(inner.kind in kinds for inner in node.walk())
