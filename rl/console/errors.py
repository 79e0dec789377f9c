"""What a run refuses to do, told to the person who can mend it rather than as a traceback."""

from collections.abc import Generator
from contextlib import contextmanager


class Refusal(ValueError):
    """What was asked for cannot be done; the text says what is wrong and what to do."""


@contextmanager
def refusing() -> Generator[None]:
    """Around what reads the user's own files: their ValueErrors and OSErrors become refusals."""
    try:
        yield
    except Refusal:
        raise
    except (OSError, ValueError) as error:
        raise Refusal(str(error)) from error


@contextmanager
def told_plainly() -> Generator[None]:
    """Around a whole command: a refusal ends it with status 1 and its text alone."""
    try:
        yield
    except Refusal as refusal:
        raise SystemExit(str(refusal)) from None


class DoesNotFit(Refusal):
    """The cluster lacks what the recipe asks for; nothing was started."""
