"""Matrices and vectors written as such, a factor before them, and determinants."""

from collections.abc import Sequence

from rewards.reading.tree import Node

_MOST_ROWS_OF_A_DETERMINANT = 4


def as_matrix(node: Node) -> Sequence[Sequence[Node]] | None:
    """Rows of a matrix, of a multiple of one, or of a sum of some; None for anything else."""
    if node.kind == "matrix" and node.name != "det":
        return [list(row.parts) for row in node.parts]
    if node.kind == "negate":
        rows = as_matrix(node.parts[0])
        return rows and [[Node("negate", (cell,)) for cell in row] for row in rows]
    if node.kind == "multiply":
        first, second = (as_matrix(part) for part in node.parts)
        if (first is None) == (second is None):
            return None
        rows, factor = (first, node.parts[1]) if first is not None else (second, node.parts[0])
        return rows and [[Node("multiply", (factor, cell)) for cell in row] for row in rows]
    if node.kind == "add":
        terms = [as_matrix(part) for part in node.parts]
        rows = [term for term in terms if term is not None]
        if len(rows) < len(terms) or len({tuple(map(len, term)) for term in rows}) != 1:
            return None
        return [
            [Node("add", tuple(cells)) for cells in zip(*lines, strict=True)]
            for lines in zip(*rows, strict=True)
        ]
    return None


def determinant(node: Node) -> Node:
    """The value of a determinant between bars; anything else as it is."""
    if node.kind != "matrix" or node.name != "det":
        return node
    rows = [row.parts for row in node.parts]
    if not 1 <= len(rows) <= _MOST_ROWS_OF_A_DETERMINANT or any(len(r) != len(rows) for r in rows):
        return node
    return _expanded(rows)


def _expanded(rows: Sequence[tuple[Node, ...]]) -> Node:
    if len(rows) == 1:
        return rows[0][0]
    terms: list[Node] = []
    for column, cell in enumerate(rows[0]):
        minor = [row[:column] + row[column + 1 :] for row in rows[1:]]
        term = Node("multiply", (cell, _expanded(minor)))
        terms.append(Node("negate", (term,)) if column % 2 else term)
    return Node("add", tuple(terms))
