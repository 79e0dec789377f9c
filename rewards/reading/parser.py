"""Reads the tokens of an answer into a tree, by recursive descent. All of the text counts."""

from functools import lru_cache

from rewards.reading.lexer import Token, tokens
from rewards.reading.terms import Terms
from rewards.reading.tree import Node, Unreadable
from rewards.reading.words import FILLERS, SEPARATORS

_RELATIONS = {
    "=": "=", "==": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "le": "<=",
    "ge": ">=", "ne": "!=", "approx": "~", "sim": "~", "equiv": "===", "in": "in", "cong": "~",
    "subset": "subset", "subseteq": "subseteq", "notin": "notin", "to": "to", "mapsto": "to",
    "rightarrow": "to", "propto": "propto", "parallel": "parallel", "perp": "perp",
    "ll": "<<", "gg": ">>", "Rightarrow": "implies",
}  # fmt: skip
_SETS = {"cup": "union", "cap": "intersection", "setminus": "difference", "bigcup": "union"}
_MODULO = ("pmod", "mod", "bmod")


class Parser(Terms):
    """The upper levels of the grammar: lists, relations, ratios and sets."""

    def answer(self) -> Node:
        """The whole text."""
        while self.word_now() in FILLERS:
            self.take()
        node = self.sequence()
        if self.now is not None:
            raise Unreadable(self.now.text)
        return node

    def sequence(self) -> Node:
        """`a; b`, each of them perhaps `c, d` or `c or d`."""
        groups = [self._commas()]
        while self.at("sign", ";"):
            self.take()
            if self.now is None:
                break
            groups.append(self._commas())
        return groups[0] if len(groups) == 1 else Node("list", tuple(groups), ";")

    def _commas(self) -> Node:
        items, name = [self.relation()], ","
        while (separator := self._separator()) is not None:
            if self.now is None:
                break
            name = separator if separator != "," else name
            items.append(self.relation())
        return items[0] if len(items) == 1 else Node("list", tuple(items), name)

    def _separator(self) -> str | None:
        """Takes a comma, a word that separates, or a comma and such a word."""
        found = None
        if self.at("sign", ","):
            self.take()
            found = ","
        word = self.word_now()
        if word in SEPARATORS:
            self.take()
            found = SEPARATORS[word]
        return found

    def relation(self) -> Node:
        self.descend()
        while self.word_now() in FILLERS:
            self.take()
        sides, signs = [self._ratio()], list[str]()
        while (sign := self._relation_sign()) is not None:
            signs.append(sign)
            if sign == "=" and (again := self._relation_sign()) is not None:
                signs[-1] = again
            sides.append(self._ratio())
        self.ascend()
        node = sides[0] if not signs else Node("relation", tuple(sides), " ".join(signs))
        return self._modulo(node)

    def _relation_sign(self) -> str | None:
        now = self.now
        if now is None or now.kind not in ("sign", "command") or now.text not in _RELATIONS:
            return None
        if now.kind == "command" and now.text == "not":
            return None
        self.take()
        return _RELATIONS[now.text]

    def _modulo(self, node: Node) -> Node:
        now = self.now
        if now is None:
            return node
        if (now.kind == "command" and now.text in _MODULO) or self.word_now() in ("mod", "modulo"):
            self.take()
            return Node("modulo", (node, self.sum()))
        if self.at("sign", "(") and self.ahead(1) in ("mod", "bmod", "pmod"):
            self.take()
            self.take()
            node = Node("modulo", (node, self.sum()))
            self.expect(")")
        return node

    def _ratio(self) -> Node:
        parts = [self._sets()]
        while self.at("sign", ":") and not self.within_braces:
            self.take()
            parts.append(self._sets())
        return parts[0] if len(parts) == 1 else Node("ratio", tuple(parts))

    def _sets(self) -> Node:
        node = self.sum()
        while self.now is not None and self.now.text in _SETS and self.now.kind == "command":
            kind = _SETS[self.take().text]
            node = Node(kind, (node, self.sum()))
        return node


@lru_cache(maxsize=8192)
def read(text: str, *, thousands: bool = True) -> Node:
    """The tree of a normalised answer; with `thousands`, `1,234` is one number.

    Raises:
        Unreadable: the text, or a part of it, is no mathematics.
    """
    found = tokens(text, thousands=thousands)
    if not found:
        raise Unreadable("nothing")
    return Parser(_union_letter(found)).answer()


def _union_letter(found: list[Token]) -> list[Token]:
    """`(1,2) U (3,4)` as a union."""
    for index in range(1, len(found) - 1):
        token, before, after = found[index], found[index - 1], found[index + 1]
        if token.text == "U" and before.text in (")", "]", "}") and after.text in ("(", "[", "{"):
            found[index] = Token("command", "cup")
    return found
