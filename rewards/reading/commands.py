"""Commands: fractions, roots, functions, sums, environments."""

from collections.abc import Callable

from rewards.reading.atoms import Atoms, group
from rewards.reading.lexer import FUNCTIONS, Token
from rewards.reading.tree import Node, Unreadable, integer, words_of

_CONSTANTS = {"pi": "pi", "infty": "infinity", "emptyset": "empty", "reals": "reals"}
_ACCENTS = words_of(
    "vec overrightarrow overline bar hat widehat tilde dot ddot mathbb textcircled angle triangle "
    "overset partial nabla widetilde measuredangle"
)
_BIG = {"sum": "sum", "prod": "product"}
_LETTERS = words_of(
    "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau upsilon phi "
    "chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar square prime star "
    "ldots Upsilon Pi iota circ diamond dagger"
)


class Commands(Atoms):
    """What begins with a backslash, or with the name of a function."""

    def starts_atom(self, now: Token) -> bool:
        if now.kind in ("letter", "number"):
            return True
        if now.kind == "command":
            return (
                now.text in FUNCTIONS or now.text in _CONSTANTS or now.text in _ACCENTS
                or now.text in _BIG or (now.text in _LETTERS and now.text != "circ")
                or now.text in ("frac", "binom", "log10", "lfloor", "lceil", "langle", "begin", "{")
            )  # fmt: skip
        if now.text == "|":
            return not self.bars and not self.within_braces
        return now.text in ("(", "{") or (now.text == "[" and not self.turned)

    def commanded(self, text: str) -> Node:
        """What a command, taken already, stands for."""
        if text in _CONSTANTS:
            return Node("constant", name=_CONSTANTS[text])
        if text in FUNCTIONS - {"sqrt"} or text == "log10":
            return self._function(text)
        if text in _BIG:
            return self._big(_BIG[text])
        if text in _ACCENTS:
            return self._accented(text)
        if text in _LETTERS:
            return Node("symbol", name=text)
        structures: dict[str, Callable[[], Node]] = {
            "{": self.set,
            "frac": lambda: Node("divide", (self.digit_argument(), self.digit_argument())),
            "binom": lambda: Node(
                "call", (self.digit_argument(), self.digit_argument()), "binomial"
            ),
            "sqrt": self._root,
            "lfloor": lambda: Node("call", (self._enclosed("rfloor"),), "floor"),
            "lceil": lambda: Node("call", (self._enclosed("rceil"),), "ceil"),
            "langle": lambda: group(self._enclosed("rangle"), "<>"),
            "begin": self._environment,
        }
        if text not in structures:
            raise Unreadable(text)
        return structures[text]()

    def _enclosed(self, closing: str) -> Node:
        inner = self.sequence()
        self.expect(closing)
        return inner

    def _accented(self, text: str) -> Node:
        if text in ("partial", "nabla", "triangle", "angle", "measuredangle"):
            run = ""
            while text in ("triangle", "angle", "measuredangle") and (
                (now := self.now) is not None and now.kind == "letter"
            ):
                run += self.take().text
            return Node("symbol", name=f"{text} {run}".strip())
        inner = self.braced_text() if self.at("sign", "{") else self.take().text
        if text == "mathbb" and inner == "R":
            return Node("constant", name="reals")
        return Node("symbol", name=f"{text} {inner}")

    def _root(self) -> Node:
        degree = integer(2)
        if self.at("sign", "["):
            self.take()
            degree = self.sum()
            self.expect("]")
        return Node("call", (self.argument(), degree), "root")

    def _function(self, name: str) -> Node:
        power: Node | None = None
        below = ""
        base: Node | None = None
        for _ in range(2):
            if self.at("sign", "^"):
                self.take()
                power = self.argument()
            elif self.at("sign", "_") and name in ("log", "log10"):
                self.take()
                base = self.argument()
            elif self.at("sign", "_"):
                self.take()
                below = self.subscript()
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
            return self.raised(self.bracketed(now.text))
        if now is not None and now.text == "-":
            self.take()
            return Node("negate", (self._function_argument(),))
        node = self.power()
        while (now := self.now) is not None and self.starts_atom(now):
            if now.text in FUNCTIONS or now.text in ("log10", "(", "[", "begin", "{", "|"):
                break
            node = self.beside_number(node) if now.kind == "number" else self.beside(node)
        turns = node == Node("constant", name="pi") or (
            node.kind == "multiply" and node.parts[1] == Node("constant", name="pi")
        )
        if turns and self.at("sign", "/"):
            self.take()
            node = Node("divide", (node, self.power()))
        return node

    def _big(self, kind: str) -> Node:
        """A sum or product over whole numbers."""
        low = high = None
        name = ""
        for _ in range(2):
            if self.at("sign", "_"):
                self.take()
                start = self.argument()
                if start.kind != "relation" or start.name != "=":
                    raise Unreadable("sum without a start")
                name = start.parts[0].name
                low = start.parts[1]
            elif self.at("sign", "^"):
                self.take()
                high = self.argument()
        if low is None or high is None:
            raise Unreadable("calculus")
        return Node(kind, (self.term(), low, high), name)

    def _environment(self) -> Node:
        name = self.braced_text()
        if name == "array":
            self.braced_text()
        if not (
            name in ("cases", "aligned") or name == "array" or name.rstrip("*").endswith("matrix")
        ):
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
        self.braced_text()
        if name in ("cases", "aligned"):
            if any(len(row) != 1 for row in rows if row):
                raise Unreadable(name)
            return Node("list", tuple(row[0] for row in rows if row), ",")
        parts = tuple(Node("row", tuple(row)) for row in rows if row)
        return Node("matrix", parts, "det" if name == "vmatrix" else "")
