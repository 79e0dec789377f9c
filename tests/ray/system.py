"""A whole system on tiny policies, and the ways in which tests look into it and disturb it."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import ray
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from actors.cluster.plan import plan_of
from actors.rollout import vllm_engine
from actors.rollout.worker import RolloutWorker
from configs.jobs.grpo import GRPORecipe
from models.inputs.encoder import InputEncoder
from models.policy.parts import part_of
from rl.algorithms.parity import parity_rows
from rl.algorithms.rows import TrainingRow
from rl.data.records import Group, Problem, SamplingRequest
from rl.jobs import generate
from rl.jobs.grpo_actors import RunningActors, running_actors


def problem(number: int, images: int = 1, size: tuple[int, int] = (56, 56)) -> Problem:
    """A question about `images` pictures of noise, which `number` decides; `size` in pixels."""
    rng = np.random.default_rng(number)
    encoded: list[bytes] = []
    for _ in range(images):
        buffer = io.BytesIO()
        noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(noise).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    question = "What is the sum of the digits?" if images else f"What is the sum of {number}, 5?"
    return Problem(f"{number}-{images}", question, ("3",), tuple(encoded))


def recipe(folder: Path, **changes: Any) -> GRPORecipe:
    """A recipe for the tiny policy in `folder`."""
    fields: dict[str, Any] = {
        "name": "tested",
        "data": {"source": "digits"},
        "policy": {"path": str(folder), "dtype": "float32"},
        "prompt": {"max_tokens": 96, "max_images": 2},
        "rollout": {"max_new_tokens": 256, "max_num_seqs": 256, "enforce_eager": True},
        "loss": {"kl": {"coef": 1.0, "estimator": "k2"}},
        "learner": {
            "gradient_checkpointing": False,
            "max_tokens_per_microbatch": 2048,
            "optimizer": {"lr": 1e-3, "weight_decay": 0.0},
        },
    }
    return GRPORecipe.model_validate(fields | changes)


class OpenWorker(RolloutWorker):
    """A rollout worker that lets tests reach into vLLM's worker process, and can be unwilling."""

    forgets_versions = False
    refuses_updates = False

    def __init__(self, *args: Any) -> None:
        vllm_engine.EXTENSION = "tests.ray.probe.Probe"
        super().__init__(*args)

    async def start_weight_update(self) -> None:
        """Make ready for new weights, or refuse to."""
        if self.refuses_updates:
            raise RuntimeError("this engine takes no weights")
        await super().start_weight_update()

    async def set_weight_version(self, version: int) -> None:
        """Call the weights `version`, or fail to."""
        if not self.forgets_versions:
            await super().set_weight_version(version)

    async def freeze(self) -> None:
        """Write nothing until `resume_generation`."""
        await self._engine.pause_generation(mode="keep")

    async def in_engine(self, work: str) -> list[Any]:
        """What a method of `Probe` returns in every rank of the engine."""
        return await self._engine.collective_rpc(work)


class System:
    """The actors of a run, and the version that the engines were told last."""

    def __init__(
        self, actors: RunningActors, folder: Path, spare: Path, tells_experts: bool = False
    ) -> None:
        self.actors = actors
        self.learners = actors.learners
        self.rollouts = actors.rollouts
        self.engines = actors.pools.engines
        self.folder = folder
        self.encoder = InputEncoder(folder, recipe(folder).prompt, trust_remote_code=True)
        self.version = 0
        self.tells_experts = tells_experts
        self._start = spare / "start"
        self._exports = spare / "exports"
        self.learners.save(self._start)
        self.actors.weights.sync(0)

    def send_weights(self) -> int:
        """Send the learner's weights as the next version."""
        self.version += 1
        self.actors.weights.sync(self.version)
        return self.version

    def reset(self) -> None:
        """Bring the policy back to its start."""
        self.learners.restore(self._start)
        self.send_weights()

    def sample(
        self, problems: Sequence[Problem], *, temperature: float = 1.0, tokens: int = 24
    ) -> list[Group]:
        """Four answers to each problem; one where the likeliest is asked."""
        count = 4 if temperature else 1
        request = SamplingRequest(count, temperature, tokens, seed=1, experts=self.tells_experts)
        return self.rollouts.sample(problems, request)

    def gaps(self, groups: Sequence[Group]) -> list[float]:
        """|engine - learner| logprob of each sampled token, nats, with today's learner."""
        rows = parity_rows(groups)
        return token_gaps(rows, self.learners.logprobs(rows))

    def in_learner(self, work: Callable[..., Any], *args: Any) -> Any:
        """`work(learner, *args)` in the process of the first rank."""
        return ray.get(self.learners._ranks[0].__ray_call__.remote(work, *args))

    def in_engine(self, work: str) -> Any:
        """What a method of `Probe` returns in the process of the first rank of the first engine."""
        return ray.get(self.engines.handles[0].in_engine.remote(work))[0]

    def greedy_by_transformers(self, problems: Sequence[Problem], tokens: int) -> list[tuple]:
        """What plain transformers continues, read from the checkpoint that the learner exports."""
        folder = self._exports / str(self.version)
        self.learners.export(folder)
        return [_continued(folder, self.encoder, one, tokens) for one in problems]


def _continued(folder: Path, encoder: InputEncoder, one: Problem, tokens: int) -> tuple[int, ...]:
    family = AutoModelForImageTextToText if encoder.has_vision else AutoModelForCausalLM
    model = family.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True)
    ids = torch.tensor([encoder.encode(one)])
    made = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **(encoder.pixels([one]) if encoder.has_vision else {}),
        **_token_kinds(model, ids),
        do_sample=False,
        max_new_tokens=tokens,
        suppress_tokens=list(encoder.image_token_ids) or None,
    )
    return tuple(made[0, ids.shape[1] :].tolist())


def _token_kinds(model: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Which of `ids` are of images, for models that number those by their place in the picture."""
    if not hasattr(model.model, "get_rope_index"):
        return {}
    return {"mm_token_type_ids": (ids == model.config.image_token_id).int()}


@contextmanager
def running_system(plan: GRPORecipe, folder: Path, spare: Path) -> Iterator[System]:
    """Everything that `plan` asks for, on the policy in `folder`; files go to `spare`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "RolloutWorker", OpenWorker)
        with running_actors(plan, folder, plan_of(plan, {})) as actors:
            actors.start()
            yield System(actors, folder, spare, plan.rollout.tells_experts)


def learned_from(groups: list[Group]) -> list[TrainingRow]:
    """The groups as rows whose first answer was good and whose others were not."""
    rows: list[TrainingRow] = []
    for row in parity_rows(groups):
        answers = [
            replace(answer, advantage=-1.0 if i else 3.0) for i, answer in enumerate(row.answers)
        ]
        rows.append(replace(row, answers=tuple(answers)))
    return rows


def token_gaps(rows: Sequence[TrainingRow], learner: dict[int, tuple[float, ...]]) -> list[float]:
    """|sampler - learner| of each answer token of `rows`, nats."""
    gaps: list[float] = []
    for answer in (answer for row in rows for answer in row.answers):
        assert answer.sampler_logprobs is not None
        pairs = zip(answer.sampler_logprobs, learner[answer.index], strict=True)
        gaps += [abs(sampled - meant) for sampled, meant in pairs]
    return gaps


def mean_gap(gaps: Sequence[float]) -> float:
    """Their mean; there must be some."""
    assert gaps
    return fmean(gaps)


def shift_part(learner: Any, part: str, by: float) -> None:
    """Move every weight of `part` at random, by `by` of its tensor's spread. Runs in a learner."""
    source = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in learner._engine.policy.model.named_parameters():
            if part_of(name) == part and parameter.numel() > 1:
                noise = torch.randn(parameter.shape, generator=source)
                parameter.add_(by * noise.to(parameter.device) * parameter.std())
