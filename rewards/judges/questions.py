"""Questions to a served model whose replies follow a JSON schema and are kept."""

import hashlib
import json
from typing import Any, TypeVar

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


class Asked:
    """A served model that is asked; safe to use from many threads."""

    def __init__(
        self, server: EndpointConfig, model: str, cache: str | None, *, max_tokens: int
    ) -> None:
        """`cache`: file of the replies; None: they are kept in memory only."""
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
        """The model's reply, from the cache where it was asked the same before.

        Args:
            content: the user's message: a text, or parts of text and images.
            reply: what the reply has to be; its JSON schema goes along.

        Raises:
            NoReply: the server refuses or is out of reach, after as many tries as it is given.
            Unjudged: it refuses this question, or says nothing that fits the schema.
        """
        schema = reply.model_json_schema()
        asked = json.dumps([self._model, self._max_tokens, system, content, schema])
        key = hashlib.sha256(asked.encode()).hexdigest()
        if (known := self._replies.get(key)) is not None:
            return reply.model_validate_json(known)
        said = self._from_server(system, content, reply, schema)
        self._replies.put(key, said.model_dump_json())
        return said

    def _from_server(
        self, system: str, content: Content, reply: type[R], schema: dict[str, Any]
    ) -> R:
        form: ResponseFormatJSONSchema = {
            "type": "json_schema",
            "json_schema": {"name": "reply", "strict": True, "schema": schema},
        }

        def read(completion: Any) -> R:
            choice = completion.choices[0]
            if choice.finish_reason == "length":
                raise BadReply(f"the reply is longer than max_tokens={self._max_tokens}")
            return reply.model_validate_json(choice.message.content or "")

        try:
            return self._client.ask(
                read,
                model=self._model,
                messages=[
                    {"role": "system", "content": system},
                    {"role": "user", "content": content},
                ],
                temperature=0.0,
                max_tokens=self._max_tokens,
                response_format=form,
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
