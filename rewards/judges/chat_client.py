"""A client of an OpenAI-compatible server: requests are spaced, and repeated where that helps."""

import os
import threading
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, TypeVar

from openai import (
    APIConnectionError,
    APIResponseValidationError,
    InternalServerError,
    OpenAI,
    OpenAIError,
    RateLimitError,
)
from pydantic import ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from configs.schema.endpoint import EndpointConfig

T = TypeVar("T")


class BadReply(ValueError):
    """A reply without what was asked for."""


_WORTH_RETRYING = (
    APIConnectionError,
    APIResponseValidationError,
    BadReply,
    InternalServerError,
    JSONDecodeError,
    RateLimitError,
    ValidationError,
)
NO_REPLY = (OpenAIError, ValidationError, BadReply, JSONDecodeError)
"""What `ChatClient.ask` raises where a server gives no reply that can be used."""


class ChatClient:
    """A client of one server; safe to use from many threads."""

    def __init__(self, config: EndpointConfig) -> None:
        self.attempts = config.attempts
        self._client = OpenAI(
            base_url=config.endpoint,
            api_key=os.environ.get(config.api_key_variable, "none"),
            timeout=config.timeout_s,
            max_retries=0,  # `ask` retries
        )
        self._rate = RateLimit(config.requests_per_s)

    def ask(self, read: Callable[[Any], T], **request: Any) -> T:
        """What `read` makes of the first choice of a chat completion.

        A server that is busy, fails, breaks off or says what `read` cannot use is asked again, up
        to `attempts` times in all, each time later.

        Args:
            read: BadReply or pydantic's ValidationError: what was said cannot be used.
            request: arguments of `chat.completions.create`.

        Raises:
            one of `NO_REPLY`: the last request's error, or one that asking again cannot mend.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(_WORTH_RETRYING),
            stop=stop_after_attempt(self.attempts),
            wait=wait_random_exponential(multiplier=0.5, max=20.0),
            reraise=True,
        )
        return attempts(self._request, read, request)

    def _request(self, read: Callable[[Any], T], request: dict[str, Any]) -> T:
        self._rate.wait()
        completion: Any = self._client.chat.completions.create(**request)
        # Bytes that are no JSON, or other JSON, come back as they are rather than as an error.
        if not getattr(completion, "choices", None):
            raise BadReply(f"the server replied without choices: {str(completion)[:200]!r}")
        return read(completion)


class RateLimit:
    """Spaces requests evenly, at most `per_s` a second; thread-safe."""

    def __init__(self, per_s: float) -> None:
        self._gap_s = 1.0 / per_s
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Sleep until the caller may start its request."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap_s
        time.sleep(turn - now)
