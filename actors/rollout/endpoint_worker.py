"""The rollout worker of a served model: another's server answers, by the OpenAI API."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

from actors.cluster.actor_names import NamedActor
from configs.jobs.evaluate import AnsweringModel
from configs.schema.data import PromptConfig
from configs.schema.reward import ThinkingConfig
from rewards.judges.chat_client import NO_REPLY, BadReply, ChatClient
from rewards.judges.contents import with_images
from rl.console.errors import UserError
from rl.data.records import IMAGE_MARK, Answer, Group, Problem, SamplingRequest
from rl.data.thinking import think_then_answer

UNKNOWN_TOKEN = -1
"""Stands for each token of an answer whose ids the server keeps to itself."""


class NoAnswer(UserError):
    """The server gave no answer, however often it was asked."""


def _others(request: SamplingRequest) -> dict[str, Any]:
    """What is sent only where it is asked for: not every server knows these."""
    beyond = {
        "repetition_penalty": request.repetition_penalty,
        "top_k": request.top_k,
        "min_p": request.min_p,
    }
    nothing = {"repetition_penalty": 1.0, "top_k": None, "min_p": 0.0}
    extra = {name: value for name, value in beyond.items() if value != nothing[name]}
    body = {"extra_body": extra} if extra else {}
    return body | ({"stop": list(request.stop)} if request.stop else {})


class EndpointWorker(NamedActor):
    """Asks a server, many problems at a time; to its pool as a worker with an engine is.

    Answers come as text: their ids are `UNKNOWN_TOKEN`, as many as the server counted.
    """

    def __init__(
        self, policy: AnsweringModel, prompt: PromptConfig, thinking: ThinkingConfig
    ) -> None:
        """`thinking`: tags that thoughts are put in where the server hands them over apart."""
        assert policy.server is not None, "only a recipe with a server starts this worker"
        self._model = policy.path
        self._server = policy.server
        self._prompt = prompt
        self._thinking = thinking

    @cached_property
    def _client(self) -> ChatClient:
        return ChatClient(self._server)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._server.parallel, thread_name_prefix="ask")

    async def wait_ready(self) -> int:
        """1: there is nothing to wait for; a server that is not there is told by the first ask."""
        return 1

    async def sample(self, problem: Problem, request: SamplingRequest) -> Group:
        """`request.count` answers to one problem, each asked for on its own.

        Raises:
            NoAnswer: the server refuses, or is out of reach.
        """
        seeds = range(request.seed, request.seed + request.count)
        loop = asyncio.get_running_loop()
        ask = partial(self._ask, self._messages(problem), request)
        answers = await asyncio.gather(
            *[loop.run_in_executor(self._threads, ask, seed) for seed in seeds]
        )
        return Group(problem.without_images(), prompt_ids=(), answers=tuple(answers))

    def _ask(self, messages: list[dict[str, Any]], request: SamplingRequest, seed: int) -> Answer:
        try:
            return self._client.ask(
                self._answer,
                model=self._model,
                messages=messages,
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_new_tokens,
                seed=seed,
                **_others(request),
            )
        except NO_REPLY as error:
            raise NoAnswer(
                f"{self._server.endpoint} gave no answer as model {self._model!r} in "
                f"{self._client.attempts} tries at most: {error!r}; see that it serves this model "
                "and these limits, then go on with --resume"
            ) from error

    def _answer(self, completion: Any) -> Answer:
        choice = completion.choices[0]
        if choice.message is None:
            raise BadReply("the server replied with a choice without a message")
        said = choice.message.content or ""
        # vLLM and others hand thoughts over apart from the answer, under one of these names.
        extra = choice.message.model_extra or {}
        thoughts = extra.get("reasoning_content") or extra.get("reasoning")
        counted = getattr(completion.usage, "completion_tokens", None) or 0
        return Answer(
            token_ids=(UNKNOWN_TOKEN,) * counted,
            logprobs=(),
            text=self._joined(thoughts, said),
            finish_reason="length" if choice.finish_reason == "length" else "stop",
            version=0,
        )

    def _joined(self, thoughts: str | None, said: str) -> str:
        if not thoughts:
            return said
        whole = think_then_answer(thoughts, said, self._thinking)
        return whole if said else whole.removesuffix(self._thinking.close_tag)  # cut off in thought

    def _messages(self, problem: Problem) -> list[dict[str, Any]]:
        """The problem as OpenAI's chat messages, images as data URLs where it marks them."""
        said = problem.question + (f"\n{self._prompt.suffix}" if self._prompt.suffix else "")
        before = [{"role": turn.role, "content": turn.text} for turn in problem.context]
        system = self._prompt.system
        if system is not None and all(turn.role != "system" for turn in problem.context):
            before = [{"role": "system", "content": system}, *before]
        if any(IMAGE_MARK in turn.text for turn in problem.context):
            raise NoAnswer(
                f"problem {problem.id!r} marks images before its question; a server "
                "is only sent those of the question"
            )
        return [*before, {"role": "user", "content": with_images(said, problem.images)}]
