"""The lower levels of the grammar: sums, products, powers, and what they are made of."""

from abc import ABC, abstractmethod
from fractions import Fraction

from rewards.reading.lexer import FUNCTIONS, Token
from rewards.reading.tree import Node, Unreadable, integer
from rewards.reading.words import CHANGES_VALUE, DEGREES, PERCENT, SCALES, SEPARATORS, unit_of

_MAX_DEPTH = 60
_CLOSING = {"(": ")]", "[": ")]", "{": "}", "<": ">"}
_CONSTANTS = {"pi": "pi", "infty": "infinity", "emptyset": "empty", "reals": "reals"}
_ACCENTS = frozenset(
    "vec overrightarrow overline bar hat widehat tilde dot ddot mathbb textcircled angle triangle "
    "overset partial nabla widetilde measuredangle".split()
)
_BIG = {"sum": "sum", "prod": "product"}
_CALCULUS = frozenset(("int", "iint", "oint", "lim", "limsup", "liminf"))
_LETTERS = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau upsilon phi chi "
    "psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar square prime star ldots "
    "Upsilon Pi iota circ diamond dagger".split()
)


class AtomParser(ABC):
    """Tokens and a place among them."""

    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0
        self._bars = 0
        self._turned = False
        self.within_braces = False

    @abstractmethod
    def sequence(self) -> Node: ...

    @property
    def now(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self) -> Token:
        now = self.now
        if now is None:
            raise Unreadable("ends too early")
        self._at += 1
        return now

    def at(self, kind: str, text: str) -> bool:
        now = self.now
        return now is not None and now.kind == kind and now.text == text

    def ahead(self, steps: int) -> str:
        at = self._at + steps
        return self._tokens[at].text if at < len(self._tokens) else ""

    def word_now(self) -> str:
        now = self.now
        return now.text.casefold() if now is not None and now.kind == "word" else ""

    def expect(self, text: str) -> Token:
        token = self.take()
        if token.text != text:
            raise Unreadable(f"{token.text} for {text}")
        return token

    def descend(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unreadable("nested too deep")

    def ascend(self) -> None:
        self._depth -= 1

    def sum(self) -> Node:
        self.descend()
        terms = [self._term()]
        while (now := self.now) is not None:
            if now.text in ("+", "-") and now.kind == "sign":
                self.take()
                term = self._term()
                terms.append(term if now.text == "+" else Node("negate", (term,)))
            elif now.text in ("pm", "mp") and now.kind == "command":
                self.take()
                left = terms[0] if len(terms) == 1 else Node("add", tuple(terms))
                terms = [Node("plus_minus", (left, self._term()))]
            else:
                break
        self.ascend()
        if len(terms) > 1 and terms[-1].kind == "quantity" and terms[0].kind != "quantity":
            last = terms[-1]
            return Node("quantity", (Node("add", (*terms[:-1], *last.parts)),), last.name)
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def _term(self) -> Node:
        node = self._signed()
        while (now := self.now) is not None:
            if now.text in ("*", "cdot", "times"):
                self.take()
                right = self._signed()
                both = node.kind in ("quantity", "list") and right.kind == "quantity"
                if both:
                    parts = node.parts if node.kind == "list" else (node,)
                    node = Node("list", (*parts, right), "by")
                else:
                    node = Node("multiply", (node, right))
            elif now.text in ("/", "div"):
                self.take()
                node = Node("divide", (node, self._signed()))
            elif now.kind == "word":
                if now.text.casefold() in SEPARATORS:
                    break
                node = self._measured(node)
            elif now.kind == "number":
                node = self._beside_number(node)
            elif self._starts_atom(now):
                node = self._beside(node)
            else:
                break
        return node

    def _beside(self, node: Node) -> Node:
        """What stands beside `node` without a sign: a mixed number or a product."""
        whole = node.kind == "number" and node.name == "" or (
            node.kind == "negate" and node.parts[0].kind == "number" and not node.parts[0].name
        )
        fraction = self.at("command", "frac")
        right = self._power()
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

    def _beside_number(self, node: Node) -> Node:
        """A number behind something: `1 1/2`, `3 hours 20 minutes`, `x2`."""
        number = self._power()
        if node.kind == "quantity" or node.kind == "list" and node.name == "compound":
            right = number
            while (now := self.now) is not None and now.kind == "word":
                if now.text.casefold() in SEPARATORS:
                    break
                right = self._measured(right)
            parts = node.parts if node.kind == "list" else (node,)
            return Node("list", (*parts, right), "compound")
        whole = node.kind == "number" or node.kind == "negate" and node.parts[0].kind == "number"
        if whole and self.at("sign", "/") and number.kind == "number":
            self.take()
            return _mixed(node, Node("divide", (number, self._power())))
        if whole:
            raise Unreadable("two numbers side by side")
        return Node("multiply", (node, number))

    def _measured(self, node: Node) -> Node:
        """`node` with the words behind it: a unit, percent, degrees, a power of ten."""
        words: list[str] = []
        while (now := self.now) is not None:
            low = now.text.casefold()
            if now.kind == "word" and low not in SEPARATORS:
                if low in CHANGES_VALUE or not any(letter.isalnum() for letter in low):
                    raise Unreadable(now.text)
                self.take()
                if low.rstrip("s") in SCALES and not words:
                    ten = Node("power", (integer(10), integer(SCALES[low.rstrip("s")])))
                    node = Node("multiply", (node, ten))
                elif low in PERCENT and not words:
                    node = Node("percent", (node,))
                elif low in DEGREES and not words:
                    node = Node("degrees", (node,))
                else:
                    words.append(now.text)
            elif words and now.text == "^":
                self.take()
                words[-1] += f"^{_exponent_text(self._argument())}"
            elif words and now.text in ("/", "cdot", "-") and self._unit_ahead():
                words.append(now.text)
                self.take()
            elif words and now.kind == "letter" and (now.text in "CF" or words[-1] == "/"):
                words.append(self.take().text)
            else:
                break
        return Node("quantity", (node,), " ".join(words)) if words else node

    def _unit_ahead(self) -> bool:
        at = self._at + 1
        return at < len(self._tokens) and self._tokens[at].kind in ("word", "letter")

    def _signed(self) -> Node:
        now = self.now
        if now is not None and now.text in ("+", "-") and now.kind == "sign":
            self.descend()
            self.take()
            node = self._signed()
            self.ascend()
            return node if now.text == "+" else Node("negate", (node,))
        if now is not None and now.text in ("pm", "mp") and now.kind == "command":
            self.take()
            return Node("plus_minus", (self._product_beside(),))
        if now is not None and now.kind == "word" and unit_of(now.text) is not None:
            self.take()
            following = self.now
            if following is not None and (following.kind == "number" or following.text == "-"):
                return Node("quantity", (self._signed(),), now.text)  # $ 5
            return self._raised(Node("symbol", name=now.text))
        return self._power()

    def _product_beside(self) -> Node:
        node = self._power()
        while (now := self.now) is not None and self._starts_atom(now):
            node = self._beside(node)
        return node

    def _starts_atom(self, now: Token) -> bool:
        if now.kind in ("letter", "number"):
            return True
        if now.kind == "command":
            return (
                now.text in FUNCTIONS or now.text in _CONSTANTS or now.text in _ACCENTS
                or now.text in _BIG or now.text in _LETTERS and now.text != "circ"
                or now.text in ("frac", "binom", "log10", "lfloor", "lceil", "langle", "begin", "{")
            )  # fmt: skip
        if now.text == "|":
            return not self._bars and not self.within_braces
        return now.text in ("(", "{") or (now.text == "[" and not self._turned)

    def _power(self) -> Node:
        return self._raised(self.atom())

    def _raised(self, node: Node) -> Node:
        while (now := self.now) is not None:
            if now.text == "^":
                self.take()
                if self.at("command", "circ") or (self.at("sign", "{") and self.ahead(1) == "circ"):
                    if self.take().text == "{":
                        self.take()
                        self.expect("}")
                    node = Node("degrees", (node,))
                    if self.at("letter", "C") or self.at("letter", "F"):
                        node = Node("quantity", (node.parts[0],), f"deg{self.take().text}")
                elif self.at("command", "prime"):
                    self.take()
                    node = _primed(node)
                else:
                    node = Node("power", (node, self._argument()))
            elif now.text == "!" and now.kind == "sign":
                self.take()
                node = Node("call", (node,), "factorial")
            elif now.text == "%":
                self.take()
                node = Node("percent", (node,))
            elif now.text in ("'", "prime") and now.kind in ("sign", "command"):
                self.take()
                node = _primed(node)
            elif now.text == "circ" and now.kind == "command":
                self.take()
                node = Node("degrees", (node,))
            elif now.text == "_":
                self.take()
                node = self._subscripted(node)
            else:
                break
        return node

    def _subscripted(self, node: Node) -> Node:
        below = self._subscript()
        inner = node.parts[0] if node.kind == "group" and len(node.parts) == 1 else node
        if inner.kind == "number" and inner.value is not None:
            written = str(inner.value if inner.value.denominator == 1 else float(inner.value))
            return Node("base", (), f"{written}_{below}")
        if inner.kind == "symbol":
            return Node("symbol", name=f"{inner.name}_{below}")
        return Node("symbol", name=f"{inner}_{below}")

    def _subscript(self) -> str:
        """The text of a subscript."""
        if not self.at("sign", "{"):
            return self.take().text
        return self._braced_text()

    def _braced_text(self) -> str:
        self.expect("{")
        depth, pieces = 1, list[str]()
        while True:
            text = self.take().text
            depth += (text == "{") - (text == "}")
            if depth == 0:
                return "".join(pieces).strip("()")
            pieces.append(text)

    def _argument(self) -> Node:
        """What a command or `^` takes: a group, a command, or the next number or letter."""
        self.descend()
        if self.at("sign", "{"):
            node = self._braces()
        elif self.at("sign", "-") or self.at("sign", "+"):
            node = self._signed()
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
            self._tokens[self._at] = Token("number", now.text[1:])
            return _number(now.text[0])
        return self._argument()

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
            self._at -= 1
            return self._bracketed(text)
        if kind == "command":
            return self._commanded(text)
        if kind == "word" and self.now is None and len(self._tokens) == 1:
            raise Unreadable(text)
        raise Unreadable(text)

    def _letter(self, text: str) -> Node:
        if text in ("e", "i") and not self.at("sign", "_"):
            return Node("constant", name=text)
        start, tokens, mark = self._at, list(self._tokens), ""
        if text in "fghFG":
            mark = self._function_marks()
        if text in "fgh" and self.at("sign", "(") or mark and self.at("sign", "("):
            inner = self._bracketed("(")
            if text != "h" or inner.kind in ("symbol", "number"):
                arguments = inner.parts if inner.kind == "group" else (inner,)
                return Node("call", arguments, f"function {text}{mark}")
        self._at, self._tokens = start, tokens
        return Node("symbol", name=text)

    def _function_marks(self) -> str:
        """Primes, a subscript or `^{-1}` between a function's name and its argument."""
        mark = ""
        while (now := self.now) is not None and now.text in ("'", "_", "^"):
            self.take()
            mark += "'" if now.text == "'" else now.text + self._subscript()
        return mark

    def _bracketed(self, text: str) -> Node:
        if text == "{":
            return self._braces()
        if text == "|":
            self.take()
            self._bars += 1
            inner = self.sequence()
            self._bars -= 1
            self.expect("|")
            return Node("call", (inner,), "abs")
        if text not in "([]":
            raise Unreadable(text)
        opening = self.take().text
        within, self.within_braces = self.within_braces, False
        bars, self._bars = self._bars, 0
        turned, self._turned = self._turned, opening == "]"
        if opening == "[" and self.at("command", "begin"):
            inner = self._commanded(self.take().text)
            self.expect("]")
            self._bars, self.within_braces, self._turned = bars, within, turned
            return inner
        inner = self.sequence()
        self._bars, self.within_braces, self._turned = bars, within, turned
        closing = self.take().text
        if closing not in (")", "]", "["):
            raise Unreadable(closing)
        if opening == "]" or closing == "[":
            opening, closing = _flipped(opening), _flipped(closing, closes=True)
        return group(inner, opening + closing)

    def _set(self) -> Node:
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

    def _commanded(self, text: str) -> Node:
        if text in _CONSTANTS:
            return Node("constant", name=_CONSTANTS[text])
        if text == "{":
            return self._set()
        if text == "frac":
            return Node("divide", (self.digit_argument(), self.digit_argument()))
        if text == "binom":
            return Node("call", (self.digit_argument(), self.digit_argument()), "binomial")
        if text == "sqrt":
            return self._root()
        if text in ("lfloor", "lceil"):
            inner = self.sequence()
            self.expect("rfloor" if text == "lfloor" else "rceil")
            return Node("call", (inner,), "floor" if text == "lfloor" else "ceil")
        if text == "langle":
            inner = self.sequence()
            self.expect("rangle")
            return group(inner, "<>")
        if text == "begin":
            return self._environment()
        if text in FUNCTIONS or text == "log10":
            return self._function(text)
        if text in _BIG:
            return self._big(_BIG[text])
        if text in _CALCULUS:
            raise Unreadable("calculus")
        if text == "mathbb" or text in _ACCENTS:
            return self._accented(text)
        if text in _LETTERS:
            return Node("symbol", name=text)
        raise Unreadable(text)

    def _accented(self, text: str) -> Node:
        if text in ("partial", "nabla", "triangle", "angle", "measuredangle"):
            run = ""
            while text in ("triangle", "angle", "measuredangle") and (
                (now := self.now) is not None and now.kind == "letter"
            ):
                run += self.take().text
            return Node("symbol", name=f"{text} {run}".strip())
        inner = self._braced_text() if self.at("sign", "{") else self.take().text
        if text == "mathbb" and inner == "R":
            return Node("constant", name="reals")
        return Node("symbol", name=f"{text} {inner}")

    def _root(self) -> Node:
        degree = integer(2)
        if self.at("sign", "["):
            self.take()
            degree = self.sum()
            self.expect("]")
        return Node("call", (self._argument(), degree), "root")

    def _function(self, name: str) -> Node:
        power: Node | None = None
        below = ""
        base: Node | None = None
        for _ in range(2):
            if self.at("sign", "^"):
                self.take()
                power = self._argument()
            elif self.at("sign", "_") and name in ("log", "log10"):
                self.take()
                base = self._argument()
            elif self.at("sign", "_"):
                self.take()
                below = self._subscript()
        if name in ("max", "min", "gcd", "lcm", "det", "arg", "Re", "Im") and self.now is None:
            raise Unreadable(name)
        argument = self._function_argument()
        if base is not None:
            node = Node("call", (argument, base), "log base")
        else:
            node = Node("call", (argument,), name + below)
        if power is None:
            return node
        if power == Node("negate", (integer(1),)) and name in FUNCTIONS and base is None:
            return Node("call", (argument,), f"arc{name}")
        return Node("power", (node, power))

    def _function_argument(self) -> Node:
        now = self.now
        if now is not None and now.text in ("(", "["):
            return self._raised(self._bracketed(now.text))
        if now is not None and now.text == "-":
            self.take()
            return Node("negate", (self._function_argument(),))
        node = self._power()
        while (now := self.now) is not None and self._starts_atom(now):
            if now.text in FUNCTIONS or now.text in ("log10", "(", "[", "begin", "{", "|"):
                break
            node = self._beside_number(node) if now.kind == "number" else self._beside(node)
        turns = node == Node("constant", name="pi") or (
            node.kind == "multiply" and node.parts[1] == Node("constant", name="pi")
        )
        if turns and self.at("sign", "/"):
            self.take()
            node = Node("divide", (node, self._power()))
        return node

    def _big(self, kind: str) -> Node:
        """A sum or product over whole numbers."""
        low = high = None
        name = ""
        for _ in range(2):
            if self.at("sign", "_"):
                self.take()
                start = self._argument()
                if start.kind != "relation" or start.name != "=":
                    raise Unreadable("sum without a start")
                name = start.parts[0].name
                low = start.parts[1]
            elif self.at("sign", "^"):
                self.take()
                high = self._argument()
        if low is None or high is None:
            raise Unreadable("calculus")
        return Node(kind, (self._term(), low, high), name)

    def _environment(self) -> Node:
        name = self._braced_text()
        if name == "array":
            self._braced_text()
        if not (name in ("cases", "aligned") or name == "array" or name.rstrip("*").endswith("matrix")):
            raise Unreadable(name)
        rows: list[list[Node]] = [[]]
        while not self.at("command", "end"):
            if self.at("sign", "&"):
                self.take()
            elif self.at("sign", "\n"):
                self.take()
                rows.append([])
            else:
                rows[-1].append(self.sequence())
        self.take()
        self._braced_text()
        if name in ("cases", "aligned"):
            if any(len(row) != 1 for row in rows if row):
                raise Unreadable(name)
            return Node("list", tuple(row[0] for row in rows if row), ",")
        parts = tuple(Node("row", tuple(row)) for row in rows if row)
        return Node("matrix", parts, "det" if name == "vmatrix" else "")


def group(inner: Node, brackets: str) -> Node:
    """What stands between two brackets; one thing between round ones is itself."""
    if inner.kind == "list":
        return Node("group", inner.parts, brackets)
    if brackets in ("()", "[]"):
        return inner if brackets == "()" or inner.kind != "number" else Node("group", (inner,), "()")
    return Node("group", (inner,), brackets)


def _flipped(bracket: str, *, closes: bool = False) -> str:
    """French brackets: `]0, 1[` is `(0, 1)`."""
    if closes:
        return ")" if bracket == "[" else bracket
    return "(" if bracket == "]" else bracket


def _mixed(whole: Node, fraction: Node) -> Node:
    if whole.kind == "negate":
        return Node("negate", (_mixed(whole.parts[0], fraction),))
    return Node("add", (whole, fraction))


def _primed(node: Node) -> Node:
    if node.kind not in ("symbol", "call"):
        raise Unreadable("prime")
    return Node(node.kind, node.parts, f"{node.name}'")


def _number(text: str) -> Node:
    plain = text.replace("{,}", "").replace(",", "").rstrip(".")
    mantissa, _, exponent = plain.casefold().partition("e")
    value = Fraction(mantissa or "0")
    if exponent:
        if abs(int(exponent)) > 5000:
            raise Unreadable("exponent")
        value *= Fraction(10) ** int(exponent)
    return Node("number", name="decimal" if "." in mantissa else "", value=value)


def _exponent_text(node: Node) -> str:
    value = node.parts[0].value if node.kind == "negate" else node.value
    return f"{'-' if node.kind == 'negate' else ''}{value}" if value is not None else "?"
