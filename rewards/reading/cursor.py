"""A place among tokens, and what the levels of the grammar ask of each other."""

from abc import ABC, abstractmethod

from rewards.reading.lexer import Token
from rewards.reading.tree import Node, Unreadable

_MAX_DEPTH = 60


class Cursor(ABC):
    """Tokens and a place among them; the levels of the grammar build on it."""

    def __init__(self, found: list[Token]) -> None:
        self.found = found
        self.place = 0
        self.depth = 0
        self.bars = 0
        self.turned = False
        self.within_braces = False

    @abstractmethod
    def sequence(self) -> Node:
        """Everything up to a closing bracket or the end."""

    @abstractmethod
    def sum(self) -> Node:
        """Terms with plus and minus between them."""

    @abstractmethod
    def term(self) -> Node:
        """Factors, with or without signs between them."""

    @abstractmethod
    def signed(self) -> Node:
        """A factor with its sign."""

    @abstractmethod
    def beside(self, node: Node) -> Node:
        """`node` with what stands beside it without a sign."""

    @abstractmethod
    def beside_number(self, node: Node) -> Node:
        """`node` with the number that stands beside it."""

    @abstractmethod
    def starts_atom(self, now: Token) -> bool:
        """Whether a token begins a factor."""

    @abstractmethod
    def commanded(self, text: str) -> Node:
        """What a command, taken already, stands for."""

    @property
    def now(self) -> Token | None:
        return self.found[self.place] if self.place < len(self.found) else None

    def take(self) -> Token:
        now = self.now
        if now is None:
            raise Unreadable("ends too early")
        self.place += 1
        return now

    def at(self, kind: str, text: str) -> bool:
        now = self.now
        return now is not None and now.kind == kind and now.text == text

    def ahead(self, steps: int) -> str:
        at = self.place + steps
        return self.found[at].text if at < len(self.found) else ""

    def word_now(self) -> str:
        now = self.now
        return now.text.casefold() if now is not None and now.kind == "word" else ""

    def expect(self, text: str) -> Token:
        token = self.take()
        if token.text != text:
            raise Unreadable(f"{token.text} for {text}")
        return token

    def descend(self) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unreadable("nested too deep")

    def ascend(self) -> None:
        self.depth -= 1
