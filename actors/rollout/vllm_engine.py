"""How a vLLM engine is started for a policy."""

from pathlib import Path
from typing import Any

import torch

from configs.schema.data import PromptConfig
from configs.schema.policy import ModelConfig
from configs.schema.rollout import EngineConfig, Transport, engine_dtype
from models.inputs.encoder import InputEncoder

BANNED_KEY = "banned_token_ids"


EXTENSION = "actors.weight_transfer.readback.WeightReadback"
"""What is mixed into vLLM's worker classes."""

_BATCHED_TOKENS = 8192
"""Tokens that an engine reads in one pass, at least a whole sequence."""


def start_engine(
    folder: str | Path,
    policy: ModelConfig,
    prompt: PromptConfig,
    rollout: EngineConfig,
    transport: Transport | None,
    encoder: InputEncoder,
) -> Any:
    """vLLM's AsyncLLM on the policy in `folder`, told what the policy may not say.

    `transport`: the way of new weights; None: the weights stay as they are.
    """
    from vllm.config import WeightTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    longest = prompt.max_tokens + rollout.max_new_tokens
    args = AsyncEngineArgs(
        model=str(folder),
        dtype=engine_dtype(policy, rollout),
        trust_remote_code=policy.trust_remote_code,
        tensor_parallel_size=rollout.tensor_parallel_size,
        distributed_executor_backend="uni" if rollout.tensor_parallel_size == 1 else "mp",
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        max_num_seqs=rollout.max_num_seqs,
        max_model_len=longest,
        enforce_eager=rollout.enforce_eager,
        # A seeded request whose prompt is read in two pieces kills a CPU engine: vLLM turns its
        # random numbers back, which a CPU generator cannot.
        enable_chunked_prefill=torch.cuda.is_available(),
        max_num_batched_tokens=max(_BATCHED_TOKENS, longest),
        # What the policy could have said at the sampling temperature, banned tokens left out: the
        # distribution that the learner reconstructs.
        logprobs_mode="processed_logprobs",
        logits_processors=["actors.rollout.banned_tokens:BannedTokens"],
        worker_extension_cls=EXTENSION,
        additional_config={BANNED_KEY: list(encoder.image_token_ids)},
        weight_transfer_config=WeightTransferConfig(backend=transport) if transport else None,
        limit_mm_per_prompt={"image": prompt.max_images, "video": 0} if encoder.has_vision else {},
        disable_log_stats=True,
        seed=0,
    )
    return AsyncLLM.from_engine_args(args)
