"""How a vLLM engine is started for a policy."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from configs.loading.suggest import closest_match
from configs.schema.data import PromptConfig
from configs.schema.policy import ModelConfig
from configs.schema.rollout import EngineConfig, Transport, engine_dtype
from models.inputs.encoder import InputEncoder
from rl.console.errors import UserError
from rl.data.records import Answer, Group, SamplingRequest

EXTENSION = "actors.weight_transfer.readback.WeightReadback"
"""What is mixed into vLLM's worker classes."""

_TUNABLE = (
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "disable_log_stats",
    "load_format",
)
"""Arguments with a default of our own, which the recipe may change."""

_EXPERT_WORKER = "actors.rollout.expert_worker.ExpertTellingWorker"

_FOR_EMBEDDINGS = {
    "enable_mm_embeds": True,
    # vLLM keeps what it made of pixels twice, and its two sides agree on what they forget only as
    # long as nothing but pixels comes.
    "mm_processor_cache_gb": 0,
}
"""Arguments of engines that are given embeddings of images."""

_BATCHED_TOKENS = 8192
"""Tokens that an engine reads in one pass; at least a whole sequence where none is read in pieces.
An image with more is read all the same, as vLLM's budget for images grows with the largest."""


def batched_tokens(rollout: EngineConfig, longest: int, pieces: bool) -> int:
    """Tokens that an engine reads in one pass, for which it keeps memory free.

    `longest`: of a prompt and its answer; `pieces`: whether a prompt may be read in several passes,
    unless the recipe says so itself.
    """
    pieces = rollout.engine_args.get("enable_chunked_prefill", pieces)
    own = max(_BATCHED_TOKENS, rollout.max_num_seqs if pieces else longest)
    return rollout.engine_args.get("max_num_batched_tokens", own)


def engine_args(
    folder: str | Path,
    policy: ModelConfig,
    prompt: PromptConfig,
    rollout: EngineConfig,
    transport: Transport | None,
    *,
    has_vision: bool,
) -> Any:
    """vLLM's AsyncEngineArgs of an engine on the policy in `folder`.

    `transport`: the way of new weights; None: the weights stay as they are.

    Raises:
        UserError: rollout.engine_args names something that vLLM does not know, or that the recipe's
            other keys decide.
    """
    from vllm.config import WeightTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs

    longest = prompt.max_tokens + rollout.max_new_tokens
    # A seeded request whose prompt is read in two pieces kills a CPU engine: vLLM turns its
    # random numbers back, which a CPU generator cannot.
    pieces = torch.cuda.is_available()
    own: dict[str, Any] = dict(
        model=str(folder),
        dtype=engine_dtype(policy, rollout),
        trust_remote_code=policy.trust_remote_code,
        load_format="safetensors",  # others are pickles, and can run code
        tensor_parallel_size=rollout.tensor_parallel_size,
        distributed_executor_backend="uni" if rollout.tensor_parallel_size == 1 else "mp",
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        max_num_seqs=rollout.max_num_seqs,
        max_model_len=longest,
        enforce_eager=rollout.enforce_eager,
        enable_chunked_prefill=pieces,
        max_num_batched_tokens=batched_tokens(rollout, longest, pieces),
        # Of the distribution that was drawn from, which the learner rebuilds: at the sampling
        # temperature, without banned tokens, and without those that top_p, top_k and min_p cut.
        logprobs_mode="processed_logprobs",
        worker_extension_cls=EXTENSION,
        weight_transfer_config=WeightTransferConfig(backend=transport) if transport else None,
        enable_sleep_mode=transport == "ipc",  # there a learner wants the memory, too
        limit_mm_per_prompt={"image": prompt.max_images, "video": 0} if has_vision else {},
        disable_log_stats=True,
        enable_return_routed_experts=rollout.tells_experts,
        seed=0,
    )
    if rollout.tells_experts and not torch.cuda.is_available():
        own["worker_cls"] = _EXPERT_WORKER
    known = {field.name for field in fields(AsyncEngineArgs)}
    for name in rollout.engine_args:
        if name not in known:
            close = closest_match(name, known)
            hint = f"did you mean {close}?" if close else "see AsyncEngineArgs in vLLM's docs"
            raise UserError(f"rollout.engine_args: vLLM's engine has no argument {name!r}; {hint}")
        if name in own and name not in _TUNABLE:
            raise UserError(
                f"rollout.engine_args: {name} is decided by the recipe's other keys (here: "
                f"{own[name]!r}); leave it out"
            )
    return AsyncEngineArgs(**(own | rollout.engine_args))


R = TypeVar("R", bound=EngineConfig)


def for_embeddings(rollout: R) -> R:
    """Engines that take embeddings of images, too.

    Raises:
        UserError: rollout.engine_args decides what this does.
    """
    for name in _FOR_EMBEDDINGS.keys() & rollout.engine_args.keys():
        raise UserError(
            f"rollout.engine_args: {name} is decided by features.keep=disk, by which engines read "
            f"what is kept of images (here: {_FOR_EMBEDDINGS[name]!r}); leave it out, or set "
            "features.keep=memory"
        )
    engine_args = rollout.engine_args | _FOR_EMBEDDINGS
    return rollout.model_copy(update={"engine_args": engine_args})


def start_engine(
    folder: str | Path,
    policy: ModelConfig,
    prompt: PromptConfig,
    rollout: EngineConfig,
    transport: Transport | None,
    encoder: InputEncoder,
) -> Any:
    """vLLM's AsyncLLM with `engine_args`."""
    from vllm.v1.engine.async_llm import AsyncLLM

    from actors.rollout.engine_metrics import EngineMetrics

    vision = encoder.has_vision
    args = engine_args(folder, policy, prompt, rollout, transport, has_vision=vision)
    return AsyncLLM.from_engine_args(args, stat_loggers=[EngineMetrics])


def sampling_params(request: SamplingRequest, banned: Iterable[int]) -> Any:
    """vLLM's SamplingParams: answers by token ids, with each sampled token's logprob.

    Args:
        banned: ids that only the image expansion may write. They get the probability 0 by a bias,
            since custom logits processors are another interface in each of vLLM's model runners.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=request.count,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k or 0,
        min_p=request.min_p,
        stop=list(request.stop),
        skip_special_tokens=False,  # of the text that stop strings are looked for in
        repetition_penalty=request.repetition_penalty,
        max_tokens=request.max_new_tokens,
        logprobs=0,  # the sampled token's alone
        flat_logprobs=True,  # a list of numbers, not an object a token
        logit_bias=dict.fromkeys(banned, -math.inf) or None,
        seed=request.seed,
        output_kind=RequestOutputKind.FINAL_ONLY,
        detokenize=bool(request.stop),
    )


def with_experts(group: Group, outputs: Sequence[Any]) -> Group:
    """The group with the experts that vLLM's outputs of its answers, in order, tell of.

    Raises:
        RuntimeError: they are not those of all tokens but each answer's last.
    """
    prompt, answers = len(group.prompt_ids), list[Answer]()
    for answer, output in zip(group.answers, outputs, strict=True):
        told, read = output.routed_experts, prompt + len(answer.token_ids) - 1
        if told is None or len(told) != read:
            raise RuntimeError(
                f"vLLM read {read} tokens of an answer and its prompt, and told the experts of "
                f"{0 if told is None else len(told)}; set rollout.routing_replay=false"
            )
        answers.append(replace(answer, experts=told[prompt:].copy()))
    first = outputs[0].routed_experts[:prompt].copy()
    return replace(group, answers=tuple(answers), prompt_experts=first)
