"""The rollout worker of a served teacher, which rewrites wrong chains."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial

from actors.cluster.actor_names import NamedActor
from actors.rollout.endpoint_worker import UNKNOWN_TOKEN, NoAnswer
from configs.jobs.distill import TeacherConfig
from configs.schema.data import PromptConfig
from configs.schema.reward import ThinkingConfig
from rewards.judges.questions import Asked, NoReply, Sampling, Unjudged
from rl.data.images import BadImage
from rl.data.records import Answer, Group, Problem, SamplingRequest
from rl.distillation.rewriting import rewrite
from rl.storage.cache import cache_folder

logger = logging.getLogger(__name__)


class RewritingWorker(NamedActor):
    """Asks a server, many problems at a time; to its pool as a worker with an engine is."""

    def __init__(
        self, teacher: TeacherConfig, prompt: PromptConfig, thinking: ThinkingConfig
    ) -> None:
        """`thinking`: tags that the rewritten thoughts are put in."""
        assert teacher.server is not None, "only a teacher with a server starts this worker"
        self._model = teacher.path
        self._server = teacher.server
        self._suffix = f"\n{prompt.suffix}" if prompt.suffix else ""
        self._thinking = thinking

    @cached_property
    def _asked(self) -> Asked:
        cache = self._server.cache or str(cache_folder() / "judge.sqlite")
        return Asked(self._server, self._model, cache)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._server.parallel, thread_name_prefix="rewrite")

    async def wait_ready(self) -> int:
        """1: there is nothing to wait for; a server that is not there is told by the first ask."""
        return 1

    async def sample(self, problem: Problem, request: SamplingRequest) -> Group:
        """`request.count` chains for one problem; a chain that was not written is empty.

        Raises:
            NoAnswer: the server refuses, or is out of reach.
        """
        loop = asyncio.get_running_loop()
        seeds = range(request.seed, request.seed + request.count)
        ask = partial(self._ask, problem, request)
        answers = await asyncio.gather(
            *[loop.run_in_executor(self._threads, ask, seed) for seed in seeds]
        )
        return Group(problem.without_images(), prompt_ids=(), answers=tuple(answers))

    def _ask(self, problem: Problem, request: SamplingRequest, seed: int) -> Answer:
        sampling = Sampling(request.max_new_tokens, request.temperature, seed)
        asked = replace(problem, question=problem.question + self._suffix)
        try:
            text, tokens = rewrite(self._asked, asked, self._thinking, sampling)
        except NoReply as error:
            raise NoAnswer(f"{error}, with --resume") from error
        except (Unjudged, BadImage, OSError) as error:
            logger.warning("problem %r is not rewritten: %s", problem.id, error)
            text, tokens = "", 0
        return Answer((UNKNOWN_TOKEN,) * tokens, (), text, "stop", version=0)
