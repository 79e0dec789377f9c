"""What sums and products are made of: numbers, letters, brackets, and what is raised above them."""

from collections.abc import Callable
from fractions import Fraction

from rewards.reading.cursor import Cursor
from rewards.reading.lexer import Token
from rewards.reading.tree import Node, Unreadable

_MAX_DIGITS = 1000


class Atoms(Cursor):
    """Numbers, letters, brackets, powers, subscripts."""

    def power(self) -> Node:
        return self.raised(self.atom())

    def raised(self, node: Node) -> Node:
        """`node` with its exponents, subscripts, primes and signs behind it."""
        while (now := self.now) is not None and now.kind != "word":
            if now.text == "^":
                self.take()
                node = self._exponent(node)
            elif now.text == "_":
                self.take()
                node = self._subscripted(node)
            elif now.text in _BEHIND:
                self.take()
                node = _BEHIND[now.text](node)
            else:
                break
        return node

    def _exponent(self, node: Node) -> Node:
        if self.at("command", "prime"):
            self.take()
            return _primed(node)
        braced = self.at("sign", "{") and self.ahead(1) == "circ"
        if not braced and not self.at("command", "circ"):
            return Node("power", (node, self.argument()))
        for _ in range(3 if braced else 1):
            self.take()
        if self.at("letter", "C") or self.at("letter", "F"):
            return Node("quantity", (node,), f"deg{self.take().text}")
        return Node("degrees", (node,))

    def _subscripted(self, node: Node) -> Node:
        below = self.subscript()
        inner = node.parts[0] if node.kind == "group" and len(node.parts) == 1 else node
        if inner.kind == "number" and inner.value is not None:
            written = str(inner.value if inner.value.denominator == 1 else float(inner.value))
            return Node("base", (), f"{written}_{below}")
        if inner.kind == "symbol":
            return Node("symbol", name=f"{inner.name}_{below}")
        return Node("symbol", name=f"{inner}_{below}")

    def subscript(self) -> str:
        """The text of a subscript."""
        if not self.at("sign", "{"):
            return self.take().text
        return self.braced_text()

    def braced_text(self) -> str:
        self.expect("{")
        depth, pieces = 1, list[str]()
        while True:
            text = self.take().text
            depth += (text == "{") - (text == "}")
            if depth == 0:
                return "".join(pieces).strip("()")
            pieces.append(text)

    def argument(self) -> Node:
        """What a command or `^` takes: a group, a command, or the next number or letter."""
        self.descend()
        if self.at("sign", "{"):
            node = self._braces()
        elif self.at("sign", "-") or self.at("sign", "+"):
            node = self.signed()
        elif (now := self.now) is not None and now.kind == "number":
            node = _number(self.take().text)
        elif (now := self.now) is not None and now.kind == "word":
            node = Node("symbol", name=self.take().text)
        else:
            node = self.atom()
        self.ascend()
        return node

    def digit_argument(self) -> Node:
        r"""An argument of `\frac`, where `12` without braces is 1 and 2."""
        now = self.now
        if now is not None and now.kind == "number" and len(now.text) > 1 and now.text.isdigit():
            self.found[self.place] = Token("number", now.text[1:])
            return _number(now.text[0])
        return self.argument()

    def _braces(self) -> Node:
        self.expect("{")
        within, self.within_braces = self.within_braces, False
        node = self.sequence()
        self.within_braces = within
        self.expect("}")
        return node

    def atom(self) -> Node:
        self.descend()
        node = self._atom(self.take())
        self.ascend()
        return node

    def _atom(self, token: Token) -> Node:
        kind, text = token.kind, token.text
        if kind == "number":
            return _number(text)
        if kind == "letter":
            return self._letter(text)
        if kind == "sign":
            self.place -= 1
            return self.bracketed(text)
        if kind == "command":
            return self.commanded(text)
        if kind == "word" and self.now is None and len(self.found) == 1:
            raise Unreadable(text)
        raise Unreadable(text)

    def _letter(self, text: str) -> Node:
        if text in ("e", "i") and not self.at("sign", "_"):
            return Node("constant", name=text)
        start, tokens, mark = self.place, list(self.found), ""
        if text in "fghFG":
            mark = self._function_marks()
        if (text in "fgh" and self.at("sign", "(")) or (mark and self.at("sign", "(")):
            inner = self.bracketed("(")
            if text != "h" or inner.kind in ("symbol", "number"):
                arguments = inner.parts if inner.kind == "group" else (inner,)
                return Node("call", arguments, f"function {text}{mark}")
        self.place, self.found = start, tokens
        return Node("symbol", name=text)

    def _function_marks(self) -> str:
        """Primes, a subscript or `^{-1}` between a function's name and its argument."""
        mark = ""
        while (now := self.now) is not None and now.text in ("'", "_", "^"):
            self.take()
            mark += "'" if now.text == "'" else now.text + self.subscript()
        return mark

    def bracketed(self, text: str) -> Node:
        if text == "{":
            return self._braces()
        if text == "|":
            self.take()
            self.bars += 1
            inner = self.sequence()
            self.bars -= 1
            self.expect("|")
            return Node("call", (inner,), "abs")
        if text not in "([]":
            raise Unreadable(text)
        opening = self.take().text
        within, self.within_braces = self.within_braces, False
        bars, self.bars = self.bars, 0
        turned, self.turned = self.turned, opening == "]"
        if opening == "[" and self.at("command", "begin"):
            inner = self.commanded(self.take().text)
            self.expect("]")
            self.bars, self.within_braces, self.turned = bars, within, turned
            return inner
        inner = self.sequence()
        self.bars, self.within_braces, self.turned = bars, within, turned
        closing = self.take().text
        if closing not in (")", "]", "["):
            raise Unreadable(closing)
        if opening == "]" or closing == "[":
            opening, closing = _flipped(opening), _flipped(closing, closes=True)
        return group(inner, opening + closing)

    def set(self) -> Node:
        within, self.within_braces = self.within_braces, True
        if self.at("command", "}"):
            self.take()
            return Node("constant", name="empty")
        inner = self.sequence()
        if self.now is not None and self.now.text in ("|", ":"):
            self.take()
            condition = self.sequence()
            inner = Node("builder", (inner, condition))
        self.within_braces = within
        self.expect("}")
        return inner if inner.kind == "builder" else group(inner, "{}")


def group(inner: Node, brackets: str) -> Node:
    """What stands between two brackets; one thing between round ones is itself."""
    if inner.kind == "list":
        return Node("group", inner.parts, brackets)
    if brackets in ("()", "[]"):
        return (
            inner if brackets == "()" or inner.kind != "number" else Node("group", (inner,), "()")
        )
    return Node("group", (inner,), brackets)


def _flipped(bracket: str, *, closes: bool = False) -> str:
    """French brackets: `]0, 1[` is `(0, 1)`."""
    if closes:
        return ")" if bracket == "[" else bracket
    return "(" if bracket == "]" else bracket


def _primed(node: Node) -> Node:
    if node.kind not in ("symbol", "call"):
        raise Unreadable("prime")
    return Node(node.kind, node.parts, f"{node.name}'")


def _number(text: str) -> Node:
    if len(text) > _MAX_DIGITS:
        raise Unreadable("a number of too many digits")
    plain = text.replace("{,}", "").replace(",", "").rstrip(".")
    mantissa, _, exponent = plain.casefold().partition("e")
    value = Fraction(mantissa or "0")
    if exponent:
        if abs(int(exponent)) > 5000:
            raise Unreadable("exponent")
        value *= Fraction(10) ** int(exponent)
    return Node("number", name="decimal" if "." in mantissa else "", value=value)


_BEHIND: dict[str, Callable[[Node], Node]] = {
    "!": lambda node: Node("call", (node,), "factorial"),
    "%": lambda node: Node("percent", (node,)),
    "'": _primed,
    "prime": _primed,
    "circ": lambda node: Node("degrees", (node,)),
}
"""What a sign behind a value makes of it."""
