"""Sums and products, and the units behind them."""

from collections.abc import Iterator

from rewards.reading.commands import Commands
from rewards.reading.tree import Node, Unreadable, integer
from rewards.reading.words import CHANGES_VALUE, DEGREES, PERCENT, SCALES, SEPARATORS, unit_of


class Terms(Commands):
    """Sums, products, mixed numbers, quantities."""

    def sum(self) -> Node:
        self.descend()
        terms = [self.term()]
        while (now := self.now) is not None:
            if now.text in ("+", "-") and now.kind == "sign":
                self.take()
                term = self.term()
                terms.append(term if now.text == "+" else Node("negate", (term,)))
            elif now.text in ("pm", "mp") and now.kind == "command":
                self.take()
                left = terms[0] if len(terms) == 1 else Node("add", tuple(terms))
                terms = [Node("plus_minus", (left, self.term()))]
            else:
                break
        self.ascend()
        if len(terms) > 1 and terms[-1].kind == "quantity" and terms[0].kind != "quantity":
            last = terms[-1]
            return Node("quantity", (Node("add", (*terms[:-1], *last.parts)),), last.name)
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def term(self) -> Node:
        node = self.signed()
        while (now := self.now) is not None:
            if now.text in ("*", "cdot", "times"):
                self.take()
                right = self.signed()
                both = node.kind in ("quantity", "list") and right.kind == "quantity"
                if both:
                    parts = node.parts if node.kind == "list" else (node,)
                    node = Node("list", (*parts, right), "by")
                else:
                    node = Node("multiply", (node, right))
            elif now.text in ("/", "div"):
                self.take()
                node = Node("divide", (node, self.signed()))
            elif now.kind == "word":
                if now.text.casefold() in SEPARATORS:
                    break
                node = self._measured(node)
            elif now.kind == "number":
                node = self.beside_number(node)
            elif self.starts_atom(now):
                node = self.beside(node)
            else:
                break
        return node

    def beside(self, node: Node) -> Node:
        """What stands beside `node` without a sign: a mixed number or a product."""
        whole = (node.kind == "number" and node.name == "") or (
            node.kind == "negate" and node.parts[0].kind == "number" and not node.parts[0].name
        )
        fraction = self.at("command", "frac")
        right = self.power()
        sign = right.kind if right.kind in ("percent", "degrees") else ""
        inner = right.parts[0] if sign else right
        if fraction and whole and inner.kind == "divide":
            top, bottom = (part.value for part in inner.parts)
            if top is not None and bottom is not None and 0 <= top < bottom:
                mixed = _mixed(node, inner)
                return Node(sign, (mixed,)) if sign else mixed
        if node.kind == "quantity":
            return Node("quantity", (Node("multiply", (node.parts[0], right)),), node.name)
        return Node("multiply", (node, right))

    def beside_number(self, node: Node) -> Node:
        """A number behind something: `1 1/2`, `3 hours 20 minutes`, `x2`."""
        number = self.power()
        if node.kind == "quantity" or (node.kind == "list" and node.name == "compound"):
            right = number
            while (now := self.now) is not None and now.kind == "word":
                if now.text.casefold() in SEPARATORS:
                    break
                right = self._measured(right)
            parts = node.parts if node.kind == "list" else (node,)
            return Node("list", (*parts, right), "compound")
        whole = node.kind == "number" or (node.kind == "negate" and node.parts[0].kind == "number")
        if whole and self.at("sign", "/") and number.kind == "number":
            self.take()
            return _mixed(node, Node("divide", (number, self.power())))
        if whole:
            raise Unreadable("two numbers side by side")
        return Node("multiply", (node, number))

    def _measured(self, node: Node) -> Node:
        """`node` with the words behind it: a unit, percent, degrees, a power of ten."""
        words: list[str] = []
        while (now := self.now) is not None:
            if now.kind == "word" and now.text.casefold() not in SEPARATORS:
                node = self._with_word(node, words)
            elif words and now.text == "^":
                self.take()
                words[-1] += f"^{_exponent_text(self.argument())}"
            elif words and now.text == "/" and self.ahead(1) == "(":
                words.extend(self._units_below())
            elif words and now.text in ("/", "cdot", "-") and self._unit_ahead():
                words.append(now.text)
                self.take()
            elif words and now.kind == "letter" and (now.text in "CF" or words[-1] == "/"):
                words.append(self.take().text)
            else:
                break
        return Node("quantity", (node,), " ".join(words)) if words else node

    def _with_word(self, node: Node, words: list[str]) -> Node:
        """`node` with the next word: what it makes of the value, or one more of its unit."""
        word = self.take().text
        low = word.casefold()
        if low in CHANGES_VALUE or not any(letter.isalnum() for letter in low):
            raise Unreadable(word)
        if not words and low.rstrip("s") in SCALES:
            ten = Node("power", (integer(10), integer(SCALES[low.rstrip("s")])))
            return Node("multiply", (node, ten))
        if not words and low in PERCENT:
            return Node("percent", (node,))
        if not words and low in DEGREES:
            return Node("degrees", (node,))
        words.append(word)
        return node

    def _units_below(self) -> Iterator[str]:
        """The units of `/(mol K)`, each below the stroke."""
        self.take()
        self.expect("(")
        while not self.at("sign", ")"):
            token = self.take()
            if token.kind in ("word", "letter"):
                yield from ("/", token.text)
            elif token.text not in ("cdot", "*"):
                raise Unreadable(token.text)
        self.take()

    def _unit_ahead(self) -> bool:
        at = self.place + 1
        return at < len(self.found) and self.found[at].kind in ("word", "letter")

    def signed(self) -> Node:
        now = self.now
        if now is not None and now.text in ("+", "-") and now.kind == "sign":
            self.descend()
            self.take()
            node = self.signed()
            self.ascend()
            return node if now.text == "+" else Node("negate", (node,))
        if now is not None and now.text in ("pm", "mp") and now.kind == "command":
            self.take()
            return Node("plus_minus", (self._product_beside(),))
        if now is not None and now.kind == "word" and unit_of(now.text) is not None:
            self.take()
            following = self.now
            if following is not None and (following.kind == "number" or following.text == "-"):
                return Node("quantity", (self.signed(),), now.text)  # $ 5
            return self.raised(Node("symbol", name=now.text))
        return self.power()

    def _product_beside(self) -> Node:
        node = self.power()
        while (now := self.now) is not None and self.starts_atom(now):
            node = self.beside(node)
        return node


def _mixed(whole: Node, fraction: Node) -> Node:
    if whole.kind == "negate":
        return Node("negate", (_mixed(whole.parts[0], fraction),))
    return Node("add", (whole, fraction))


def _exponent_text(node: Node) -> str:
    value = node.parts[0].value if node.kind == "negate" else node.value
    return f"{'-' if node.kind == 'negate' else ''}{value}" if value is not None else "?"
