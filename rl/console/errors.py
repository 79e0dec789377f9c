"""What a run refuses to do, told to the person who can mend it rather than as a traceback."""

import errno
from collections.abc import Generator
from contextlib import contextmanager


class UserError(ValueError):
    """What was asked for cannot be done; the text says what is wrong and what to do."""


@contextmanager
def as_user_error() -> Generator[None]:
    """Around what reads the user's own files: their ValueErrors and OSErrors become refusals."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error


@contextmanager
def exit_on_user_error() -> Generator[None]:
    """Around a whole command: refusals and a full disk end it with status 1 and words alone."""
    try:
        yield
    except UserError as refusal:
        raise SystemExit(str(refusal)) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SystemExit(f"{error}: make room; a run goes on by --resume") from None


class DoesNotFit(UserError):
    """The cluster lacks what the recipe asks for; nothing was started."""
