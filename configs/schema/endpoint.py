"""The section of a recipe about a server that speaks the OpenAI API."""

from urllib.parse import urlsplit

from pydantic import PositiveFloat, PositiveInt, field_validator

from configs.schema.base import StrictModel


class EndpointConfig(StrictModel):
    """A server that is asked, and how patiently."""

    endpoint: str = "http://127.0.0.1:8000/v1"
    """Base address of an OpenAI-compatible server."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; a server without keys needs none."""
    timeout_s: PositiveFloat = 60.0
    """Seconds for one request."""
    attempts: PositiveInt = 4
    """Requests before the server counts as out of reach."""
    parallel: PositiveInt = 16
    """Requests under way at a time, per actor that asks."""
    requests_per_s: PositiveFloat = 20.0
    """Most requests started a second, per actor that asks."""

    @field_validator("endpoint")
    @classmethod
    def _no_secret_in_it(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.username or parts.password:
            raise ValueError(
                f"a user or password for {parts.hostname} stands in it, and recipes lie in run "
                "folders for all to read: set the environment variable of api_key_variable instead"
            )
        return value


class AskedModelConfig(EndpointConfig):
    """A served model that is asked for what a JSON schema describes, and its replies kept."""

    model: str
    """The model's name at that server."""
    max_tokens: PositiveInt = 2048
    """Longest reply, thoughts that the server hands over apart included."""
    cache: str | None = None
    """File that keeps the replies from run to run, so that nothing is asked twice; null:
    judge.sqlite in $R1V_CACHE or ~/.cache/r1v-ray."""
