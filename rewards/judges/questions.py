"""Questions to a served model whose replies follow a JSON schema and are kept."""

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import Any, Generic, TypeVar

from openai import BadRequestError, OpenAIError, UnprocessableEntityError
from openai.types.shared_params import ResponseFormatJSONSchema
from pydantic import BaseModel

from configs.schema.endpoint import AskedModelConfig, EndpointConfig
from rewards.judges.chat_client import NO_REPLY, BadReply, ChatClient
from rewards.judges.contents import Content
from rewards.judges.reply_cache import ReplyCache
from rl.console.errors import UserError
from rl.storage.cache import cache_folder

R = TypeVar("R", bound=BaseModel)

_OF_THE_QUESTION = (BadRequestError, UnprocessableEntityError)
"""Refusals of one question (too long, a broken image), where others may well be answered."""


class NoReply(UserError):
    """The server refuses or is out of reach, and would do so with any question."""


class Unjudged(ValueError):
    """This question gets no reply that can be used; others may."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn."""

    max_tokens: int
    temperature: float = 0.0
    """0: the likeliest token each time."""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """What a model said."""

    said: R
    tokens: int
    """As the server counts them; 0 where it does not."""


class Asked:
    """A served model that is asked; safe to use from many threads."""

    def __init__(
        self, server: EndpointConfig, model: str, cache: str | None, *, max_tokens: int = 2048
    ) -> None:
        """`cache`: file of the replies; None: they are kept in memory only.

        `max_tokens`: longest reply of `ask`.
        """
        self._server = server
        self._model = model
        self._max_tokens = max_tokens
        self._client = ChatClient(server)
        self._replies = ReplyCache(cache)

    @classmethod
    def of(cls, config: AskedModelConfig) -> "Asked":
        """The model of a recipe's section, replies on disk."""
        cache = config.cache or str(cache_folder() / "judge.sqlite")
        return cls(config, config.model, cache, max_tokens=config.max_tokens)

    def ask(self, system: str, content: Content, reply: type[R]) -> R:
        """The likeliest reply; see `reply`."""
        return self.reply(system, content, reply, Sampling(self._max_tokens)).said

    def reply(
        self, system: str, content: Content, reply: type[R], sampling: "Sampling"
    ) -> "Reply[R]":
        """The model's reply, from the cache where it was asked the same before.

        Args:
            content: the user's message: a text, or parts of text and images.
            reply: what the reply has to be; its JSON schema goes along.

        Raises:
            NoReply: the server refuses or is out of reach, after as many tries as it is given.
            Unjudged: it refuses this question, or says nothing that fits the schema.
        """
        schema = reply.model_json_schema()
        asked = json.dumps([self._model, astuple(sampling), system, content, schema])
        key = hashlib.sha256(asked.encode()).hexdigest()
        if (known := self._replies.get(key)) is not None:
            kept = json.loads(known)
            return Reply(reply.model_validate(kept["said"]), kept["tokens"])
        told = self._from_server(system, content, reply, sampling)
        kept = {"said": told.said.model_dump(mode="json"), "tokens": told.tokens}
        self._replies.put(key, json.dumps(kept))
        return told

    def _from_server(
        self, system: str, content: Content, reply: type[R], sampling: "Sampling"
    ) -> "Reply[R]":
        form: ResponseFormatJSONSchema = {
            "type": "json_schema",
            "json_schema": {"name": "reply", "strict": True, "schema": reply.model_json_schema()},
        }

        def read(completion: Any) -> Reply[R]:
            choice = completion.choices[0]
            if choice.finish_reason == "length":
                raise BadReply(f"the reply is longer than max_tokens={sampling.max_tokens}")
            said = reply.model_validate_json(choice.message.content or "")
            return Reply(said, getattr(completion.usage, "completion_tokens", None) or 0)

        try:
            return self._client.ask(
                read,
                model=self._model,
                messages=[
                    {"role": "system", "content": system},
                    {"role": "user", "content": content},
                ],
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                response_format=form,
                **({} if sampling.seed is None else {"seed": sampling.seed}),
            )
        except _OF_THE_QUESTION as error:
            raise Unjudged(f"the judge refuses the question: {error!r}") from error
        except OpenAIError as error:
            raise NoReply(
                f"{self._server.endpoint} gave no reply as model {self._model!r} in "
                f"{self._client.attempts} tries at most: {error!r}; see that it serves this model, "
                "then start again: replies so far are kept"
            ) from error
        except NO_REPLY as error:
            raise Unjudged(
                f"no reply that fits in {self._client.attempts} tries: {error!r}"
            ) from error
