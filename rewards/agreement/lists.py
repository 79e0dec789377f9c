"""Lists and sets as their parts, and each of the two signs of a ±."""

from rewards.reading.tree import Node, has


def items(node: Node) -> list[Node] | None:
    """The parts of a list or a set, signs like ± written out; None for anything else."""
    if node.kind == "list":
        return [part for each in node.parts for part in items(each) or [each]]
    if node.kind == "group" and node.name == "{}":
        return _distinct([part for each in node.parts for part in items(each) or [each]])
    if has(node, "plus_minus") and node.kind != "group":
        return [signed(node, plus=True), signed(node, plus=False)]
    return None


def signs_apart(node: Node) -> Node:
    """`x \\ne \\pm 2` as two conditions that both hold."""
    if node.kind != "relation" or not has(node, "plus_minus"):
        return node
    return Node("list", (signed(node, plus=True), signed(node, plus=False)), "and")


def signed(node: Node, *, plus: bool) -> Node:
    """The tree with each ± read as one of its two signs."""
    parts = tuple(signed(part, plus=plus) for part in node.parts)
    if node.kind != "plus_minus":
        return Node(node.kind, parts, node.name, node.value)
    last = parts[-1] if plus else Node("negate", (parts[-1],))
    return last if len(parts) == 1 else Node("add", (parts[0], last))


def _distinct(nodes: list[Node]) -> list[Node]:
    return list(dict.fromkeys(nodes))
