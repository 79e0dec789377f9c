"""Each of vLLM's model runners takes the engine's settings and requests, without an engine."""

import math
from pathlib import Path
from typing import Any

import pytest

from actors.rollout.vllm_engine import engine_args, sampling_params
from configs.jobs.grpo import GRPORecipe
from configs.schema.rollout import Transport
from models.inputs.encoder import InputEncoder
from rl.console.errors import UserError
from rl.data.records import SamplingRequest
from rl.jobs.dry_run import print_plan
from tests.ray.system import recipe

pytestmark = [pytest.mark.ray]

ENGINE = {"max_new_tokens": 256}


@pytest.mark.parametrize("transport", ["nccl", "ipc", "gloo"])
@pytest.mark.parametrize("runner", ["0", "1"])  # V1, and V2, which engines on CUDA have
def test_both_model_runners_take_engine_settings_and_requests(
    vlm_folder: Path, runner: str, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.platforms import current_platform
    from vllm.v1.engine.input_processor import InputProcessor

    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", runner)
    monkeypatch.setattr("vllm.config.vllm.HAS_TRITON", True)  # as it is on CUDA
    monkeypatch.setattr(type(current_platform), "is_sleep_mode_available", lambda _: True)
    own = recipe(vlm_folder)
    args = engine_args(vlm_folder, own.policy, own.prompt, own.rollout, transport, has_vision=True)
    config = args.create_engine_config()
    assert config.use_v2_model_runner is (runner == "1")
    assert config.model_config.enable_sleep_mode is (transport == "ipc")
    banned = InputEncoder(vlm_folder, own.prompt, trust_remote_code=False).image_token_ids
    request = SamplingRequest(count=4, temperature=1.0, max_new_tokens=8, seed=1)
    params = sampling_params(request, banned)
    InputProcessor(config)._validate_params(params, ("generate",))
    assert params.logit_bias == {token: -math.inf for token in banned}
    assert banned


def test_further_arguments_of_the_engine_reach_vllm(vlm_folder: Path) -> None:
    said = {"max_num_batched_tokens": 999, "enable_prefix_caching": False}
    own = recipe(vlm_folder, rollout=ENGINE | {"engine_args": said})
    args = engine_args(vlm_folder, own.policy, own.prompt, own.rollout, None, has_vision=True)
    assert (args.max_num_batched_tokens, args.enable_prefix_caching) == (999, False)
    assert args.worker_extension_cls


@pytest.mark.parametrize(
    ("section", "settings", "told"),
    [
        ("rollout", {"engine_args": {"kv_cache_dtyp": "fp8"}}, "did you mean kv_cache_dtype"),
        ("rollout", {"engine_args": {"max_model_len": 8}}, "max_model_len is decided by the rec"),
        ("rollout", {"engine_args": {"enable_return_routed_experts": 1}}, "decided by the recipe"),
        ("learner", {"zero_optimization": {"stage3_x": 1}}, r"stage3_x with zero_stage="),
        ("learner", {"zero_optimization": {"bucket": 1}}, r"(?s)bucket.*not permitted"),
    ],
)
def test_settings_that_are_unknown_or_decided_elsewhere_are_refused_by_a_dry_run_too(
    vlm_folder: Path, section: str, settings: dict[str, Any], told: str
) -> None:
    fields = recipe(vlm_folder).model_dump()
    fields[section] |= settings
    with pytest.raises(UserError, match=told):
        print_plan(GRPORecipe.model_validate(fields))
